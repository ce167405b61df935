//! Secrets: token strings, machine keys, instance keys. They are shown by one named method and wiped on drop.
//!
//! A string made here ends in a checksum, CRC-32 of all before it, so that a scanner finds leaks without a false alarm and
//! a flood of junk tokens dies before the store is asked. The checksum is no security check: 154 random bits are.
//! Keys that come from elsewhere may have any body, so for keys the checksum is never required.

use std::fmt;

use zeroize::Zeroizing;

use crate::base62;
use crate::ids::{Locator, TokenId};
use crate::random::{Random, random_bytes};

/// The longest key or token string that is looked at, in bytes.
pub const MAX_SECRET_LENGTH: usize = 255;

/// The random characters of a token string.
const TOKEN_RANDOM: usize = 26;
/// The random characters of a key.
const KEY_RANDOM: usize = 42;
/// The characters of the checksum.
const CHECKSUM: usize = 6;
/// The characters of a locator.
const LOCATOR: usize = 11;

/// A text that must not be shown. `Debug` prints `[redacted]`; there is no `Display`, no `Clone` and no `Serialize`.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Shows the text. Every caller of this method is a place where a secret leaves its cover.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// Says why a text cannot be a token string, for those who put something else in its place. `None` means that it may be one, of
/// Countersign or of Clerk.
#[must_use]
pub fn why_not_a_token(text: &str) -> Option<String> {
    let what = if text.starts_with("ak_") {
        "a machine key, which no other machine may see"
    } else if text.starts_with("sk_") {
        "an instance key, which no machine may see"
    } else if text.contains(['"', '\'']) {
        "text with quotation marks"
    } else if text.contains(char::is_whitespace) {
        "more than one word"
    } else if text.parse::<TokenId>().is_ok() {
        "the id of a token, not the token string"
    } else {
        return None;
    };
    Some(format!(
        "expected a token string, which creating a token returns, but this is {what}"
    ))
}

/// A bearer token string, `mt_` and 43 characters: locator, random part, checksum.
#[derive(Debug)]
pub struct TokenString(Secret);

impl TokenString {
    /// What every opaque token begins with.
    pub const PREFIX: &'static str = "mt_";
    /// The length of a token string in bytes.
    pub const LENGTH: usize = 3 + LOCATOR + TOKEN_RANDOM + CHECKSUM;

    /// Makes the string of the token at `locator`.
    #[must_use]
    pub fn generate(locator: Locator, random: &dyn Random) -> Self {
        let mut text = String::with_capacity(Self::LENGTH);
        text.push_str(Self::PREFIX);
        push_digits(&mut text, &base62::encode::<LOCATOR>(locator.get()));
        push_random(&mut text, TOKEN_RANDOM, random);
        push_checksum(&mut text);
        Self(Secret::new(text))
    }

    /// Takes a string read back from its sealed copy.
    #[must_use]
    pub fn from_sealed(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// Shows the string.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Where the token that `text` claims to be would be stored. `None` where the length, an alphabet or the checksum is
    /// wrong, so that junk costs no look-up.
    #[must_use]
    pub fn locate(text: &str) -> Option<Locator> {
        let bytes = text.as_bytes();
        if bytes.len() != Self::LENGTH || !bytes.starts_with(Self::PREFIX.as_bytes()) {
            return None;
        }
        let (body, checksum) = bytes.split_at_checked(Self::LENGTH - CHECKSUM)?;
        if checksum_of(body) != *checksum {
            return None;
        }
        let locator = base62::decode_u64(body.get(3..3 + LOCATOR)?)?;
        Locator::new(locator)
    }
}

/// The secret key of a machine, `ak_…`.
#[derive(Debug)]
pub struct MachineKey(Secret);

impl MachineKey {
    /// What every machine key begins with.
    pub const PREFIX: &'static str = "ak_";

    /// Makes a new key of 250 random bits.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        Self(generate_key(Self::PREFIX, random))
    }

    /// Takes a key read back from its sealed copy or from a user.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// Shows the key.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// The secret key of an instance, `sk_live_…` or `sk_test_…`.
#[derive(Debug)]
pub struct InstanceKey(Secret);

impl InstanceKey {
    /// What every instance key begins with.
    pub const PREFIX: &'static str = "sk_";

    /// Makes a new key of 250 random bits, `sk_live_…` or, for development, `sk_test_…`.
    #[must_use]
    pub fn generate(is_live: bool, random: &dyn Random) -> Self {
        Self(generate_key(
            if is_live { "sk_live_" } else { "sk_test_" },
            random,
        ))
    }

    /// Takes a key from a user.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// Shows the key.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Whether `text` ends in the checksum of what stands before it.
#[must_use]
pub fn has_checksum(text: &str) -> bool {
    text.len()
        .checked_sub(CHECKSUM)
        .and_then(|place| text.as_bytes().split_at_checked(place))
        .is_some_and(|(body, checksum)| checksum_of(body) == *checksum)
}

fn generate_key(prefix: &str, random: &dyn Random) -> Secret {
    let mut text = String::with_capacity(prefix.len() + KEY_RANDOM + CHECKSUM);
    text.push_str(prefix);
    push_random(&mut text, KEY_RANDOM, random);
    push_checksum(&mut text);
    Secret::new(text)
}

/// How many digits one random number of 64 bits is good for.
const DIGITS_AT_ONCE: usize = 10;
/// The largest multiple of 62^10 below 2^64: a number below it favors no digits.
const UNIFORM_BELOW: u64 = 21 * 62_u64.pow(10);

/// Appends `count` uniform digits. A number that would favor some is thrown away, one of 22.
fn push_random(text: &mut String, count: usize, random: &dyn Random) {
    let mut wanted = count;
    while wanted > 0 {
        let number = u64::from_be_bytes(random_bytes(random));
        if number < UNIFORM_BELOW {
            let digits = Zeroizing::new(base62::encode::<DIGITS_AT_ONCE>(number));
            let taken = digits.get(..wanted).unwrap_or(digits.as_slice());
            push_digits(text, taken);
            wanted -= taken.len();
        }
    }
}

fn push_checksum(text: &mut String) {
    let checksum = checksum_of(text.as_bytes());
    push_digits(text, &checksum);
}

fn push_digits(text: &mut String, digits: &[u8]) {
    text.extend(digits.iter().map(|digit| char::from(*digit)));
}

fn checksum_of(bytes: &[u8]) -> [u8; CHECKSUM] {
    base62::encode(u64::from(crc32fast::hash(bytes)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::testing::SeededRandom;
    use proptest::prelude::*;

    #[test]
    fn a_secret_is_never_shown_by_debug() {
        let key = MachineKey::generate(&SeededRandom::new(3));
        assert_eq!(format!("{key:?}"), "MachineKey([redacted])");
    }

    #[test]
    fn keys_have_the_lengths_of_the_contract_and_a_checksum() {
        let random = SeededRandom::new(4);
        let machine = MachineKey::generate(&random);
        assert_eq!(machine.expose().len(), 3 + 48);
        assert!(has_checksum(machine.expose()));
        let instance = InstanceKey::generate(true, &random);
        assert!(instance.expose().starts_with("sk_live_"));
        assert!(has_checksum(instance.expose()));
    }

    #[test]
    fn the_checksum_is_crc_32_of_ieee_in_base_62() {
        // CRC-32 of "123456789" is 0xCBF43926 = 3_421_780_262.
        assert_eq!(&checksum_of(b"123456789"), b"3jZRME");
    }

    /// Numbers in a row, as bytes.
    struct Numbers(Mutex<Vec<u64>>);

    impl Random for Numbers {
        fn fill(&self, buffer: &mut [u8]) {
            let number = self.0.lock().expect("nobody panics").remove(0);
            buffer.copy_from_slice(&number.to_be_bytes());
        }
    }

    #[test]
    fn a_number_that_would_favor_digits_is_thrown_away() {
        let numbers = [
            u64::MAX,
            UNIFORM_BELOW,
            UNIFORM_BELOW - 1,
            62_u64.pow(10),
            62_u64.pow(9),
        ];
        let mut text = String::new();
        push_random(&mut text, 24, &Numbers(Mutex::new(numbers.to_vec())));
        assert_eq!(text, "zzzzzzzzzz00000000001000");
    }

    #[test]
    fn a_token_id_is_no_token_string() {
        assert_eq!(
            TokenString::locate("mt_f7f0ba8c3b4843ce7d85fcdd5e71853e"),
            None
        );
    }

    proptest! {
        #[test]
        fn a_token_string_leads_to_its_locator(number in 0..=i64::MAX as u64, seed: u64) {
            let locator = Locator::new(number).expect("fits");
            let token = TokenString::generate(locator, &SeededRandom::new(seed));
            prop_assert_eq!(token.expose().len(), TokenString::LENGTH);
            prop_assert_eq!(TokenString::locate(token.expose()), Some(locator));
        }

        #[test]
        fn one_changed_character_breaks_the_checksum(seed: u64, place in 3_usize..TokenString::LENGTH, digit in 0_u8..62) {
            let token = TokenString::generate(Locator::new(7).expect("fits"), &SeededRandom::new(seed));
            let mut bytes = token.expose().as_bytes().to_vec();
            let digit = base62::digit_of(digit);
            prop_assume!(bytes[place] != digit);
            bytes[place] = digit;
            let changed = String::from_utf8(bytes).expect("ASCII");
            prop_assert_eq!(TokenString::locate(&changed), None);
        }

        #[test]
        fn no_text_makes_locate_panic(text in "\\PC*") {
            let _ = TokenString::locate(&text);
            let _ = has_checksum(&text);
        }
    }
}
