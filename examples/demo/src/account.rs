//! The account of what happens: a line for each step, colored on a terminal, with what was seen.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use tokio::time::Instant;

/// A step that did not hold. Its reason was shown.
#[derive(Debug)]
pub(crate) struct Broken;

/// The account so far.
#[derive(Debug, Default)]
pub(crate) struct Account {
    held: usize,
    broken: usize,
}

impl Account {
    /// Begins a chapter.
    pub(crate) fn chapter(&self, title: &str, lead: &str) {
        anstream::println!("\n\x1b[1m{title}\x1b[0m\n\x1b[2m{lead}\x1b[0m");
    }

    /// Takes one step. It yields what later steps need and a few words on what was seen.
    pub(crate) async fn step<T, S: Display>(
        &mut self,
        what: &str,
        step: impl Future<Output = anyhow::Result<(T, S)>>,
    ) -> Result<T, Broken> {
        let is_terminal = std::io::stdout().is_terminal();
        if is_terminal {
            anstream::print!("  \x1b[2m…\x1b[0m {what}");
            // Progress for those who look; without it nothing is lost.
            let _ = std::io::stdout().flush();
        }
        let start = Instant::now();
        let outcome = step.await;
        let took = start.elapsed().as_secs_f64();
        let line_start = if is_terminal { "\r\x1b[K" } else { "" };
        match outcome {
            Ok((value, seen)) => {
                self.held += 1;
                anstream::println!(
                    "{line_start}  \x1b[32m✓\x1b[0m {what} \x1b[2m({took:.1} s)\x1b[0m"
                );
                anstream::println!("      \x1b[2m{seen}\x1b[0m");
                Ok(value)
            }
            Err(error) => {
                self.broken += 1;
                anstream::println!(
                    "{line_start}  \x1b[31m✗\x1b[0m {what} \x1b[2m({took:.1} s)\x1b[0m"
                );
                anstream::println!("      \x1b[31m{error:#}\x1b[0m");
                Err(Broken)
            }
        }
    }

    /// Says how it ended: how many steps held, and whether all did.
    pub(crate) fn end(&self) -> (usize, bool) {
        (self.held, self.broken == 0)
    }
}

/// An error where something does not hold that should.
pub(crate) fn ensure(holds: bool, what: impl Display) -> anyhow::Result<()> {
    holds.then_some(()).with_context(|| what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_account_with_one_broken_step_says_so() {
        let mut account = Account::default();
        let good = account.step("good", async { Ok((7, "seen")) }).await;
        assert_eq!(good.ok(), Some(7));
        assert_eq!(account.end(), (1, true));
        let broken = account.step("broken", async { ensure(false, "why").map(|()| ((), "")) });
        assert!(broken.await.is_err());
        assert_eq!(account.end(), (1, false));
    }
}
