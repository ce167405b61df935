//! The seam for random bytes: programs pass in the operating system's generator, tests a seeded one.

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
