//! Base 62 with the alphabet `0-9A-Za-z`, most significant digit first.
//!
//! Ids and secrets are made of these digits; the order of the alphabet makes text order and numeric order the same.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Writes `value` as exactly `N` digits, padded with zeros.
///
/// Digits that do not fit are dropped; callers choose `N` so that every value fits (6 for 32 bits, 11 for 64).
pub(crate) fn encode<const N: usize>(mut value: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = digit_of((value % 62) as u8);
        value /= 62;
    }
    digits
}

/// Reads digits back. `None` where a character is not a digit or the number exceeds 64 bits.
pub(crate) fn decode_u64(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'Z' => digit - b'A' + 10,
            b'a'..=b'z' => digit - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(u64::from(value))
    })
}

/// Writes the 160-bit big-endian number `bytes` as 27 digits, as KSUID does.
pub(crate) fn encode_160(bytes: &[u8; 20]) -> [u8; 27] {
    let mut digits = [b'0'; 27];
    let mut number = *bytes;
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let dividend = (remainder << 8) | u32::from(*byte);
            *byte = low_byte(dividend / 62);
            remainder = dividend % 62;
        }
        *digit = digit_of(low_byte(remainder));
    }
    digits
}

/// The remainder of a division by 62 times 256, divided by 62, fits a byte.
fn low_byte(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// The digit for a value below 62; larger values wrap.
pub(crate) fn digit_of(value: u8) -> u8 {
    ALPHABET
        .get(usize::from(value % 62))
        .copied()
        .unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_numbers_fit_their_width() {
        assert_eq!(&encode::<6>(u64::from(u32::MAX)), b"4gfFC3");
        assert_eq!(&encode::<11>(u64::MAX), b"LygHa16AHYF");
        assert_eq!(&encode_160(&[0xff; 20]), b"aWgEPTl1tmebfsQzFP4bxwgy80V");
        assert_eq!(&encode_160(&[0; 20]), b"000000000000000000000000000");
    }

    #[test]
    fn a_number_beyond_64_bits_is_refused() {
        assert_eq!(decode_u64(b"LygHa16AHYF"), Some(u64::MAX));
        assert_eq!(decode_u64(b"LygHa16AHYG"), None);
        assert_eq!(decode_u64(b"0000000000-"), None);
    }
}
