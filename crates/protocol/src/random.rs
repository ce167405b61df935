//! The seam for random bytes: programs pass in the operating system's generator, tests a seeded one.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

/// A source of uniformly random bytes.
///
/// Outside tests the only implementation asks the operating system; it ends the process where that fails,
/// because nothing safe can be done without random bytes.
pub trait Random: Send + Sync {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

/// Random bytes as an array.
#[must_use]
pub fn random_bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

/// Random bytes that were drawn at once, for values that are made together: to ask the operating system for each costs more than
/// all else about them. What it has too little of comes from the source behind it.
pub struct Drawn<'a, const N: usize> {
    source: &'a dyn Random,
    bytes: Zeroizing<[u8; N]>,
    /// How many of the bytes were handed out.
    used: Mutex<usize>,
}

impl<const N: usize> fmt::Debug for Drawn<'_, N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Drawn").finish_non_exhaustive()
    }
}

impl<'a, const N: usize> Drawn<'a, N> {
    /// Draws `N` bytes.
    #[must_use]
    pub fn from(source: &'a dyn Random) -> Self {
        Self {
            source,
            bytes: Zeroizing::new(random_bytes(source)),
            used: Mutex::new(0),
        }
    }
}

impl<const N: usize> Random for Drawn<'_, N> {
    fn fill(&self, buffer: &mut [u8]) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let end = *used + buffer.len();
        match self.bytes.get(*used..end) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                *used = end;
            }
            None => self.source.fill(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededRandom;

    #[test]
    fn what_was_drawn_is_handed_out_once_and_the_rest_comes_from_the_source() {
        let wanted: [u8; 48] = random_bytes(&SeededRandom::new(7));
        let source = SeededRandom::new(7);
        let drawn = Drawn::<32>::from(&source);
        let parts: [[u8; 16]; 3] = std::array::from_fn(|_| random_bytes(&drawn));
        assert_eq!(parts.concat(), wanted);
    }
}
