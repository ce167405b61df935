//! Defines the data for answering requests: what all requests share, and a handler's view of one request.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use countersign_authority::{Accepts, Actor, Authority, Error, Operator};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::random::Random;
use http::HeaderMap;
use http::header::{AUTHORIZATION, USER_AGENT};
use ipnet::IpNet;
use serde::Deserialize;
use tokio::sync::watch;

use crate::body::BodyProblem;
use crate::budget::Budget;
use crate::docs::{Docs, MakeDocs};
use crate::fields::{Members, Presence};
use crate::host::Hosts;
use crate::metrics::Metrics;
use crate::mount::Mount;
use crate::operator::Named;
use crate::pace::Turns;
use crate::reply::{ApiError, Habit};

/// The data that every request needs.
pub(crate) struct App {
    pub(crate) authority: Arc<Authority>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) turns: Arc<Turns>,
    /// Budget for the machines in large pages that are being built.
    pub(crate) listed: Arc<Budget>,
    /// Budget for large answers that are being sent, in KiB.
    pub(crate) large: Arc<Budget>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// The hosts that requests may name.
    pub(crate) hosts: Hosts,
    /// The operations that this listener serves.
    pub(crate) exposure: Exposure,
    /// The operator, who is the caller of every request at the operator's door; `None` on the network.
    pub(crate) operator: Option<Operator>,
    pub(crate) docs: Arc<LazyLock<Docs, MakeDocs>>,
    pub(crate) mounts: Vec<Mount>,
    /// True once the server stops.
    pub(crate) stop: watch::Receiver<bool>,
}

/// The operations that a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// The API, its documentation and the health checks.
    Api,
    /// The same and the metrics, for a listener that only this machine can reach.
    ApiAndMetrics,
    /// The metrics and the health checks.
    Metrics,
}

/// The segments of a path that stand for `{…}`, in order.
pub(crate) type Captures<'a> = [&'a str; 2];

/// A handler's view of a request. Its credential is already checked, unless the handler itself checks it.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    /// How errors are worded.
    pub(crate) habit: Habit,
    /// Whether the operation needs a body.
    pub(crate) presence: Presence,
    pub(crate) captures: Captures<'a>,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    /// See [`Call::body`].
    pub(crate) body: Result<Bytes, BodyProblem>,
    pub(crate) address: IpAddr,
    /// See [`Call::actor`].
    pub(crate) actor: Option<Actor>,
}

impl Call<'_> {
    /// Returns the caller. Operations that are public in the table have no caller.
    pub(crate) fn actor(&self) -> Result<&Actor, ApiError> {
        self.actor
            .as_ref()
            .ok_or_else(|| ApiError::new(ErrorCode::AuthorizationHeaderFormatInvalid))
    }

    /// Returns the body, which is complete and has a JSON content type.
    pub(crate) fn body(&self) -> Result<&Bytes, ApiError> {
        let worded = |problem: &BodyProblem| problem.worded(self.habit);
        self.body.as_ref().map_err(worded)
    }

    /// Returns the members of the body.
    pub(crate) fn members(&self) -> Result<Members<'_>, ApiError> {
        Members::of_body(self.body()?, self.habit, self.presence)
    }

    /// Reads the body, which holds nothing else than a `T`.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        let mut members = self.members()?;
        let request = members.read()?;
        members.finish()?;
        Ok(request)
    }

    /// Reads the query. Parameters that nobody asked for are ignored.
    pub(crate) fn query<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        Members::of_query(self.query, self.habit)?.read()
    }

    /// Returns the credential of the only `Authorization` header, which must use the Bearer scheme (RFC 6750 section
    /// 2.1).
    pub(crate) fn credential(&self) -> Result<&str, ApiError> {
        only_credential(self.headers).ok_or_else(|| {
            let limited = self.app.failed(self.address).err();
            limited.unwrap_or_else(|| ApiError::new(ErrorCode::AuthorizationHeaderFormatInvalid))
        })
    }

    /// Finds the actor that presents the credential. At the operator's door, the actor is the operator.
    pub(crate) async fn authenticate(&self, accepts: Accepts) -> Result<Actor, ApiError> {
        if let Some(operator) = &self.app.operator {
            let named = Named::read(self.headers)?;
            return named.actor(&self.app.authority, operator, accepts).await;
        }
        let credential = self.credential()?;
        let found = self.app.authority.authenticate(credential, accepts).await;
        found.map_err(|error| self.unauthenticated(error))
    }

    /// Refuses callers without a good credential, and counts no request, because the handler does.
    pub(crate) async fn admit(&self, accepts: Accepts) -> Result<(), ApiError> {
        let credential = self.credential()?;
        let found = self.app.authority.identify(credential, accepts).await;
        found.map(drop).map_err(|error| self.unauthenticated(error))
    }

    /// Converts an authentication error for the API, and counts it if the credential is invalid.
    pub(crate) fn unauthenticated(&self, error: Error) -> ApiError {
        let habit = match error {
            Error::InstanceKeyInvalid | Error::MachineKeyInvalid | Error::CredentialMalformed => {
                if let Err(limited) = self.app.failed(self.address) {
                    return limited;
                }
                Habit::Parameters
            }
            _ => self.habit,
        };
        ApiError::from_authority(habit, error)
    }

    /// Converts a refusal for the API, in the wording of the route's service.
    pub(crate) fn refused(&self, error: Error) -> ApiError {
        ApiError::from_authority(self.habit, error)
    }

    pub(crate) fn user_agent(&self) -> &str {
        self.headers
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl App {
    /// Counts a failed authentication. Returns an error if the address has failed too often.
    pub(crate) fn failed(&self, address: IpAddr) -> Result<(), ApiError> {
        self.authority
            .note_failure(address)
            .map_err(|error| ApiError::from_authority(Habit::Parameters, error))
    }
}

/// Returns the credential of the only `Authorization` header.
pub(crate) fn only_credential(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok().and_then(bearer),
        _ => None,
    }
}

/// Returns the credential of `Bearer <credential>`; the scheme ignores case.
fn bearer(line: &str) -> Option<&str> {
    const SCHEME: &str = "bearer ";
    let (scheme, credential) = line.split_at_checked(SCHEME.len())?;
    let credential = credential.trim_matches(' ');
    (scheme.eq_ignore_ascii_case(SCHEME) && !credential.is_empty() && !credential.contains(' '))
        .then_some(credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer_in_any_case_with_one_credential() {
        assert_eq!(bearer("Bearer ak_1"), Some("ak_1"));
        assert_eq!(bearer("bearer ak_1"), Some("ak_1"));
        for line in [
            "",
            "Bearer",
            "Bearer ",
            "ak_1",
            "Basic ak_1",
            "Bearer a b",
            "Bearer\tak_1",
        ] {
            assert_eq!(bearer(line), None, "{line}");
        }
    }
}
