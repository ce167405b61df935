//! What the load generator sends: prebuilt requests in turn, or one request with a random token in it.
//!
//! Everything is laid out before the clock starts. Picking the next request is an index or the
//! overwriting of a few dozen bytes, so that the generator stays far cheaper than any server.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

/// Token strings of one width, end to end: millions of them cost their bytes and no more.
#[derive(Debug, Default)]
pub struct Tokens {
    width: usize,
    bytes: Vec<u8>,
}

impl Tokens {
    pub fn push(&mut self, token: &[u8]) -> Result<()> {
        if self.bytes.is_empty() {
            self.width = token.len();
        }
        ensure!(
            token.len() == self.width && self.width > 0,
            "tokens differ in length"
        );
        self.bytes.extend_from_slice(token);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.bytes.len().checked_div(self.width).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn at(&self, index: usize) -> &[u8] {
        let start = index * self.width;
        self.bytes
            .get(start..start + self.width)
            .expect("the index is below len()")
    }
}

/// The source of one load.
#[derive(Debug)]
pub enum Requests {
    InTurn {
        requests: Vec<Vec<u8>>,
        next: usize,
    },
    RandomToken {
        request: Vec<u8>,
        place: Range<usize>,
        tokens: Arc<Tokens>,
        random: Random,
    },
}

impl Requests {
    pub fn in_turn(requests: Vec<Vec<u8>>) -> Self {
        Self::InTurn { requests, next: 0 }
    }

    /// Takes the request that `build` makes of a token and exchanges the token each time.
    pub fn random_token(tokens: &Arc<Tokens>, build: impl FnOnce(&str) -> Vec<u8>) -> Result<Self> {
        ensure!(!tokens.is_empty(), "no tokens to choose from");
        let sample = tokens.at(0);
        let request = build(std::str::from_utf8(sample)?);
        let start = memchr::memmem::find(&request, sample)
            .context("the built request does not contain its token")?;
        Ok(Self::RandomToken {
            request,
            place: start..start + sample.len(),
            tokens: Arc::clone(tokens),
            random: Random::default(),
        })
    }

    /// Returns the bytes to send next.
    pub fn next_request(&mut self) -> &[u8] {
        match self {
            Self::InTurn { requests, next } => {
                let current = *next;
                *next = (current + 1) % requests.len();
                requests.get(current).expect("next wraps at the end")
            }
            Self::RandomToken {
                request,
                place,
                tokens,
                random,
            } => {
                let token = tokens.at(random.below(tokens.len()));
                request
                    .get_mut(place.clone())
                    .expect("the place was found in this request")
                    .copy_from_slice(token);
                request
            }
        }
    }
}

/// SplitMix64: spreads look-ups over the store, and each run looks up the same tokens.
#[derive(Debug, Default)]
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let limit = u64::try_from(limit).expect("usize fits u64");
        usize::try_from(mixed % limit).expect("less than the limit, which is a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_token_replaces_only_the_token() {
        let mut tokens = Tokens::default();
        tokens.push(b"aaaa").unwrap();
        tokens.push(b"bbbb").unwrap();
        let mut requests =
            Requests::random_token(&Arc::new(tokens), |token| format!("<{token}>").into()).unwrap();
        let mut seen: Vec<_> = (0..50).map(|_| requests.next_request().to_vec()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [b"<aaaa>".to_vec(), b"<bbbb>".to_vec()]);
    }

    #[test]
    fn requests_are_taken_in_turn() {
        let mut requests = Requests::in_turn(vec![b"1".to_vec(), b"2".to_vec()]);
        let sent: Vec<_> = (0..3).map(|_| requests.next_request().to_vec()).collect();
        assert_eq!(sent, [b"1", b"2", b"1"]);
    }

    #[test]
    fn token_of_another_length_is_refused() {
        let mut tokens = Tokens::default();
        tokens.push(b"aaaa").unwrap();
        assert!(tokens.push(b"ccc").is_err());
        assert_eq!((tokens.len(), tokens.at(0)), (1, &b"aaaa"[..]));
    }
}
