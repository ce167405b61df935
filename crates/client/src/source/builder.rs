//! What a token source is made of.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::renewed::{Renewed, Settings};
use super::{Authority, Issue, Kind, TokenSource};
use crate::chance;
use crate::client::Client;
use crate::environment::Environment;
use crate::error::{Error, SettingsError};
use crate::tokens::{NewToken, TokenFormat, TokenString};

/// How long before its end a token is renewed, where nothing else is said.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// What a [`TokenSource`] is made of.
#[derive(Debug)]
pub struct TokenSourceBuilder {
    origin: Origin,
    new: NewToken,
    renew_before: Duration,
}

/// Where tokens come from.
#[derive(Debug)]
enum Origin {
    Authority(Client),
    ReadyMade(TokenString),
}

impl TokenSourceBuilder {
    pub(super) fn new(client: Client) -> Self {
        Self::of(Origin::Authority(client))
    }

    /// Begins with the settings of the environment, as [`TokenSource::from_env`] does, so that more can be chosen. A
    /// ready-made token is presented as it is, whatever is chosen.
    ///
    /// # Errors
    /// [`Error::Settings`] that names every variable that is missing.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_environment(&Environment::of_process(), None)
    }

    /// The same as [`TokenSource::from_env_for`] does.
    ///
    /// # Errors
    /// [`Error::Settings`] that names every variable that is missing.
    pub fn from_env_for(service: &str) -> Result<Self, Error> {
        Self::from_environment(&Environment::of_process(), Some(service))
    }

    pub(super) fn from_environment(
        environment: &Environment,
        service: Option<&str>,
    ) -> Result<Self, Error> {
        if let Some((name, token)) = service.and_then(|service| environment.token(service)) {
            let named = |error| SettingsError::Key(format!("{name}: {error}"));
            let token = TokenString::new(token).map_err(named)?;
            return Ok(Self::of(Origin::ReadyMade(token)));
        }
        let mut missing = Vec::new();
        let address = environment.address(&mut missing);
        let key = environment.machine_key(service, &mut missing)?;
        match (address, key) {
            (Some(address), Some(key)) => Ok(Self::new(Client::new(address, key)?)),
            _ => Err(SettingsError::Missing(missing).into()),
        }
    }

    fn of(origin: Origin) -> Self {
        Self {
            origin,
            new: NewToken::new(),
            renew_before: RENEW_BEFORE,
        }
    }

    /// The life of each token. Default: what the machine's setting says, mostly one hour.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.new = self.new.lifetime(lifetime);
        self
    }

    /// How long before its end a token is renewed, a tenth more or less by chance, so that many processes do not all ask at once.
    /// Default: 5 minutes. It is never more than a fifth of the token's life.
    #[must_use]
    pub fn renew_before(mut self, time: Duration) -> Self {
        self.renew_before = time;
        self
    }

    /// Opaque or JWT.
    #[must_use]
    pub fn format(mut self, format: TokenFormat) -> Self {
        self.new = self.new.format(format);
        self
    }

    /// Claims of one's own.
    #[must_use]
    pub fn claims(mut self, claims: Value) -> Self {
        self.new = self.new.claims(claims);
        self
    }

    /// Shares an opaque token among all processes of the machine: the authority hands out one that exists and still has this
    /// long, in whole seconds. Should be longer than [`renew_before`](Self::renew_before), or a token comes back that is due.
    #[must_use]
    pub fn reuse(mut self, min_time_left: Duration) -> Self {
        self.new = self.new.reuse(min_time_left);
        self
    }

    /// Makes the source. The first token is made when it is first asked for; to make it now, ask.
    #[must_use]
    pub fn build(self) -> TokenSource {
        let client = match self.origin {
            Origin::Authority(client) => client,
            Origin::ReadyMade(token) => return TokenSource::ready_made(token, None),
        };
        let authority = Authority {
            client,
            new: self.new,
        };
        renewed(Box::new(authority), self.renew_before, chance::uniform)
    }
}

pub(super) fn renewed(
    issue: Box<dyn Issue>,
    renew_before: Duration,
    chance: fn() -> f64,
) -> TokenSource {
    let settings = Settings {
        renew_before,
        chance,
    };
    TokenSource(Kind::Renewed(Arc::new(Renewed::new(issue, settings))))
}
