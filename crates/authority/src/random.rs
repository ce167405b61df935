//! The operating system's random numbers.

use countersign_protocol::random::Random;

/// Asks the operating system each time; ends the process where it does not answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the generator that others are given"
    )]
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer)
            .expect("nothing safe can be done without the operating system's random numbers");
    }
}
