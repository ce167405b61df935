//! Token strings and keys: nothing panics, and whatever is located has the length, the prefix and the checksum.
#![no_main]

use countersign_protocol::ids::{Locator, TokenId};
use countersign_protocol::random::Random;
use countersign_protocol::secret::{TokenString, has_checksum};
use libfuzzer_sys::fuzz_target;

/// Repeats the input, so that the fuzzer chooses what a token is made of.
struct Repeated<'a>(&'a [u8]);

impl Random for Repeated<'_> {
    fn fill(&self, buffer: &mut [u8]) {
        // The generator throws the largest numbers away; a source of nothing else would keep it busy for ever. None begins with a
        // byte below 244.
        for (place, byte) in buffer.iter_mut().enumerate() {
            *byte = self
                .0
                .get(place % self.0.len().max(1))
                .copied()
                .unwrap_or_default()
                % 244;
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if TokenString::locate(text).is_some() {
            assert_eq!(text.len(), TokenString::LENGTH);
            assert!(text.starts_with(TokenString::PREFIX));
            assert!(has_checksum(text));
            assert!(
                !TokenId::is_well_formed(text),
                "an id would work as a token"
            );
        }
        let _ = has_checksum(text);
    }
    let Some((number, random)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let Some(locator) = Locator::new(u64::from_be_bytes(*number)) else {
        return;
    };
    let token = TokenString::generate(locator, &Repeated(random));
    assert_eq!(TokenString::locate(token.expose()), Some(locator));
});
