//! Settings with which no receiver can be made.

use thiserror::Error;

/// Why a receiver cannot be made, or a service not be told from others.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Variables of the environment that are needed and not set, all of them.
    #[error("M2M not configured: set {}", .0.join(", "))]
    Missing(Vec<String>),
    /// A setting that cannot be used. The text says why and what would be right.
    #[error("{0}")]
    Unusable(String),
}

impl SetupError {
    pub(crate) fn unless_complete(missing: Vec<String>) -> Result<(), Self> {
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Self::Missing(missing))
        }
    }
}
