//! The token that a sender presents: made on first use, kept for its life, renewed ahead, replaced once after a 401; or ready-made;
//! or none.

mod builder;
#[cfg(test)]
mod interleavings;
mod ready_made;
mod renewed;
/// What `renewed` waits with; its tests put others into their place.
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
    pub(super) use tokio::spawn;
}
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderValue;

use crate::client::Client;
use crate::error::Error;
use crate::tokens::{IssuedToken, NewToken, TokenString};
pub use builder::TokenSourceBuilder;
use ready_made::ReadyMade;
use renewed::Renewed;

/// Where a sender gets its token from. Cheap to clone; clones share the token.
///
/// ```no_run
/// # async fn example() -> Result<(), countersign_client::Error> {
/// let tokens = countersign_client::TokenSource::from_env()?;
/// let token = tokens.token().await?;
/// let header = token.authorization(); // for the `Authorization` header of a request
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenSource(Kind);

#[derive(Clone)]
enum Kind {
    Renewed(Arc<Renewed>),
    ReadyMade(Arc<ReadyMade>),
    Off(TokenString),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Kind::Renewed(_) => "TokenSource(renewed)",
            Kind::ReadyMade(_) => "TokenSource(ready-made)",
            Kind::Off(_) => "TokenSource(off)",
        })
    }
}

/// Makes tokens; a seam for tests.
trait Issue: Send + Sync {
    /// Where they are made, for messages.
    fn address(&self) -> &str;

    /// Makes one. One that is `forced` must not be one that exists already.
    fn issue(&self, is_forced: bool) -> Issuing<'_>;
}

type Issuing<'a> = Pin<Box<dyn Future<Output = Result<IssuedToken, Error>> + Send + 'a>>;

/// Asks the authority.
struct Authority {
    client: Client,
    new: NewToken,
}

impl Issue for Authority {
    fn address(&self) -> &str {
        self.client.address()
    }

    fn issue(&self, is_forced: bool) -> Issuing<'_> {
        Box::pin(async move {
            if is_forced {
                self.client.create_token(&self.new.without_reuse()).await
            } else {
                self.client.create_token(&self.new).await
            }
        })
    }
}

impl TokenSource {
    /// Tokens of the machine whose key the client has, of the default life and format.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::builder(client).build()
    }

    /// The same with choices.
    #[must_use]
    pub fn builder(client: Client) -> TokenSourceBuilder {
        TokenSourceBuilder::new(client)
    }

    /// A token that was made before and is never renewed, such as one for 365 days. Where its end is known, from a JWT or from
    /// `expires_at`, the log warns each day from 30 days before it.
    #[must_use]
    pub fn ready_made(token: TokenString, expires_at: Option<std::time::SystemTime>) -> Self {
        Self(Kind::ReadyMade(Arc::new(ReadyMade::new(token, expires_at))))
    }

    /// No token: for tests of a service whose calls go to something that wants none. Layers send requests as they are.
    #[must_use]
    pub fn off() -> Self {
        tracing::warn!("M2M tokens are switched off: requests carry none");
        let placeholder = TokenString::new("m2m-tokens-are-switched-off");
        Self(Kind::Off(placeholder.expect("the text is one word")))
    }

    /// Asks `CLERK_API_URL` (or `CLERK_API_BASE_URL`) with the key of `CLERK_MACHINE_SECRET_KEY`.
    ///
    /// # Errors
    /// [`Error::Settings`] that names every variable that is missing.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_environment(&crate::environment::Environment::of_process(), None)
    }

    /// The same for a process that is several machines, or has a ready-made token: `CLERK_M2M_TOKEN_<SERVICE>`, or else the key
    /// `CLERK_MACHINE_SECRET_KEY_<SERVICE>`, or else `CLERK_MACHINE_SECRET_KEY`.
    ///
    /// # Errors
    /// [`Error::Settings`] that names every variable that is missing.
    pub fn from_env_for(service: &str) -> Result<Self, Error> {
        Self::from_environment(
            &crate::environment::Environment::of_process(),
            Some(service),
        )
    }

    fn from_environment(
        environment: &crate::environment::Environment,
        service: Option<&str>,
    ) -> Result<Self, Error> {
        Ok(TokenSourceBuilder::from_environment(environment, service)?.build())
    }

    /// The token to present now. Waits only where there is none that still lives.
    ///
    /// # Errors
    /// The error of the attempt that was waited for, or of the last one while further attempts wait.
    pub async fn token(&self) -> Result<TokenString, Error> {
        match &self.0 {
            Kind::Renewed(renewed) => renewed.token().await,
            Kind::ReadyMade(ready_made) => Ok(ready_made.token()),
            Kind::Off(placeholder) => Ok(placeholder.clone()),
        }
    }

    /// The value of the `Authorization` header for a request; `None` where tokens are switched off.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub async fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        if self.is_off() {
            return Ok(None);
        }
        Ok(Some(self.token().await?.authorization()))
    }

    /// Another token in the place of one that a receiver answered with 401. `None` where there can be none: the token is
    /// ready-made, or one was replaced less than 10 seconds ago, and so the 401 is the answer.
    ///
    /// # Errors
    /// The error of the attempt.
    pub async fn replacement(&self, refused: &TokenString) -> Result<Option<TokenString>, Error> {
        match &self.0 {
            Kind::Renewed(renewed) => renewed.replacement(refused).await,
            Kind::ReadyMade(_) | Kind::Off(_) => Ok(None),
        }
    }

    /// Whether tokens are switched off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(self.0, Kind::Off(_))
    }
}
