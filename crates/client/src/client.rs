//! One authority and one caller, by a key or as the operator: how a request is sent and its response read.
//!
//! No redirect is followed, because the key would go along. What was not sent, for want of a connection, is tried once more;
//! what may have been received is not.

use std::fmt;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use countersign_protocol::door::{INSTANCE_HEADER, MACHINE_HEADER};
use countersign_protocol::error::ErrorEnvelope;
use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::secret::Secret;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
};
use http::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::address::Address;
use crate::environment::Environment;
use crate::error::{Error, Refusal, SettingsError};
use crate::request::Request;
use crate::transport::{self, read, words};

/// How long a connection may take, where the builder says nothing else.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take, where the builder says nothing else.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer, where the builder says nothing else: five hundred machines with all their scopes fit many times.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// The largest answer that refuses: its texts stay in memory and get into logs.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;

/// An authority and the key with which it is asked: an instance key (`sk_…`) or a machine key (`ak_…`); or an authority
/// on this machine, asked as its operator ([`Client::at_door`]).
///
/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    address: Address,
    caller: Caller,
    http: reqwest::Client,
    max_answer_bytes: usize,
}

/// The caller in whose name requests are sent.
#[derive(Clone)]
enum Caller {
    /// The holder of a key, which is in the `Authorization` header.
    Key(HeaderValue),
    /// The operator, at the operator's door.
    Operator {
        instance: Option<HeaderValue>,
        machine: Option<HeaderValue>,
    },
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// What a [`Client`] is made of.
pub struct ClientBuilder {
    place: Place,
    connect_timeout: Duration,
    timeout: Duration,
    max_answer_bytes: usize,
    allows_plain_http: bool,
}

/// Where the authority is, and the key to present there.
enum Place {
    Network {
        address: String,
        key: Secret,
    },
    #[cfg(unix)]
    Door(PathBuf),
}

impl fmt::Debug for ClientBuilder {
    /// Without the address, which is not known to be one yet.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientBuilder")
            .finish_non_exhaustive()
    }
}

impl ClientBuilder {
    fn new(place: Place) -> Self {
        Self {
            place,
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            max_answer_bytes: MAX_ANSWER_BYTES,
            allows_plain_http: false,
        }
    }

    /// How long a connection may take. Default: 2 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the whole answer may take. Default: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long the body of an answer may be; a longer one is no answer. Default: 32 MiB.
    #[must_use]
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// Sends the key in plain text to an authority that is not on this machine. For networks that nobody can listen to.
    #[must_use]
    pub fn allow_plain_http(mut self) -> Self {
        self.allows_plain_http = true;
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Settings`] where the address or the key cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        let (connect, whole) = (self.connect_timeout, self.timeout);
        let (address, caller, http) = match &self.place {
            Place::Network { address, key } => {
                let address = Address::parse(address, self.allows_plain_http)?;
                let key = key.expose().trim();
                if !key.starts_with("sk_") && !key.starts_with("ak_") {
                    return Err(SettingsError::Key(
                        "the key is neither an instance key (sk_…) nor a machine key (ak_…)"
                            .to_owned(),
                    )
                    .into());
                }
                let caller = Caller::Key(bearer(key)?);
                let http = transport::client(address.is_plain(), connect, whole)?;
                (address, caller, http)
            }
            #[cfg(unix)]
            Place::Door(socket) => {
                let caller = Caller::Operator {
                    instance: None,
                    machine: None,
                };
                let http = transport::client_at(socket, connect, whole)?;
                (Address::door(socket), caller, http)
            }
        };
        Ok(Client(Arc::new(Inner {
            address,
            caller,
            http,
            max_answer_bytes: self.max_answer_bytes,
        })))
    }
}

impl Client {
    /// Asks the authority at `address` (`https://auth.example.com`, with or without `/v1`) with `key`.
    ///
    /// # Errors
    /// [`Error::Settings`] where the address or the key cannot be used.
    pub fn new(address: &str, key: &str) -> Result<Self, Error> {
        Self::builder(address, key).build()
    }

    /// The same with choices.
    #[must_use]
    pub fn builder(address: &str, key: &str) -> ClientBuilder {
        ClientBuilder::new(Place::Network {
            address: address.to_owned(),
            key: Secret::new(key.to_owned()),
        })
    }

    /// Asks the authority of a data folder on this machine as its operator, through the socket `operator.sock` in that
    /// folder. No key is needed: the operating system tells the authority which user connects.
    ///
    /// The path of a socket is limited to about 100 bytes by the operating system. On Linux, `/proc/self/fd/N/operator.sock`
    /// can replace a longer path while this process keeps descriptor `N` of the folder open.
    #[cfg(unix)]
    #[must_use]
    pub fn at_door(socket: &Path) -> ClientBuilder {
        ClientBuilder::new(Place::Door(socket.to_owned()))
    }

    /// Returns the same client for requests about one instance. Only a client at the operator's door has a choice: a key
    /// belongs to one instance, so this does not change a client with a key.
    #[must_use]
    pub fn for_instance(&self, id: InstanceId) -> Self {
        self.named(Some(id), None)
    }

    /// Returns the same client for requests in the role of a machine: to issue its tokens, and to verify tokens as that
    /// machine. Only the operator can do this; it does not change a client with a key.
    #[must_use]
    pub fn as_machine(&self, id: MachineId) -> Self {
        self.named(None, Some(id))
    }

    fn named(&self, new_instance: Option<InstanceId>, new_machine: Option<MachineId>) -> Self {
        let mut inner = (*self.0).clone();
        if let Caller::Operator { instance, machine } = &mut inner.caller {
            let header = |id: &str| HeaderValue::from_str(id).ok();
            *instance = new_instance.map_or_else(|| instance.take(), |id| header(id.as_str()));
            *machine = new_machine.map_or_else(|| machine.take(), |id| header(id.as_str()));
        }
        Self(Arc::new(inner))
    }

    /// Asks the authority of `CLERK_API_URL` (or `CLERK_API_BASE_URL`) with the instance key of `CLERK_SECRET_KEY`.
    ///
    /// # Errors
    /// [`Error::Settings`] that names every variable that is missing.
    pub fn from_env() -> Result<Self, Error> {
        let environment = Environment::of_process();
        let mut missing = Vec::new();
        let address = environment.address(&mut missing);
        let key = environment.instance_key(&mut missing)?;
        match (address, key) {
            (Some(address), Some(key)) => Self::new(address, key),
            _ => Err(SettingsError::Missing(missing).into()),
        }
    }

    /// The authority's address, without `/v1`, or the path of its door.
    #[must_use]
    pub fn address(&self) -> &str {
        self.0.address.as_str()
    }

    /// Sends one request below `/v1` and reads its answer whole: for routes that have no method here.
    ///
    /// # Errors
    /// [`Error::Refused`] for each status that is no success, [`Error::Unreachable`], [`Error::Malformed`].
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Response<Bytes>, Error> {
        let answer = match self.attempt(&method, path, body.as_ref()).await {
            Err(error)
                if !error.is_timeout()
                    && (error.is_connect() || changes_nothing(&method, path)) =>
            {
                self.attempt(&method, path, body.as_ref()).await
            }
            answer => answer,
        };
        let answer = answer.map_err(|error| self.unreachable(words(&error)))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let limit = if status.is_success() {
            self.0.max_answer_bytes
        } else {
            self.0.max_answer_bytes.min(MAX_REFUSAL_BYTES)
        };
        let body = read(answer, limit)
            .await
            .map_err(|error| self.unreachable(error))?;
        if status.is_success() {
            if !is_json(&headers) {
                let kind = headers
                    .get(CONTENT_TYPE)
                    .and_then(|kind| kind.to_str().ok());
                return Err(self.malformed(format!(
                    "its response with status {} is {}, not application/json",
                    status.as_u16(),
                    kind.unwrap_or("of no type")
                )));
            }
            let mut response = Response::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            return Ok(response);
        }
        Err(self.refused(status, &headers, &body))
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        body: Option<&String>,
    ) -> reqwest::Result<reqwest::Response> {
        let Inner {
            address,
            caller,
            http,
            ..
        } = &*self.0;
        let mut request = http
            .request(method.clone(), address.url(path))
            .header(ACCEPT, "application/json");
        request = match caller {
            Caller::Key(authorization) => request.header(AUTHORIZATION, authorization),
            Caller::Operator { instance, machine } => {
                let named = [(INSTANCE_HEADER, instance), (MACHINE_HEADER, machine)];
                let named = named
                    .into_iter()
                    .filter_map(|(name, id)| Some((name, id.as_ref()?)));
                named.fold(request, |request, (name, id)| request.header(name, id))
            }
        };
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        request.send().await
    }

    /// Sends one of the [requests](crate::requests) and returns the body of the response in the types of the wire.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn send<T: DeserializeOwned>(&self, request: Request<T>) -> Result<T, Error> {
        let answer = self.answer_to(request).await?;
        self.read(&answer)
    }

    /// Sends a request, for callers that also need the head of the response.
    pub(crate) async fn answer_to<T>(&self, request: Request<T>) -> Result<Response<Bytes>, Error> {
        let Request {
            method, path, body, ..
        } = request;
        self.request(method, &path, body).await
    }

    /// Reads an answer's body.
    pub(crate) fn read<T: DeserializeOwned>(&self, answer: &Response<Bytes>) -> Result<T, Error> {
        serde_json::from_slice(answer.body()).map_err(|error| {
            self.malformed(format!(
                "its answer with status {} cannot be read: {error}",
                answer.status().as_u16()
            ))
        })
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let seconds = text(RETRY_AFTER.as_str()).and_then(|value| value.parse().ok());
        let trace_id = text("clerk-trace-id").or_else(|| text("cf-ray"));
        let refusal = is_json(headers)
            .then(|| serde_json::from_slice::<ErrorEnvelope>(body).ok())
            .flatten()
            .and_then(|envelope| {
                let trace_id = trace_id.map(str::to_owned);
                Refusal::new(status, envelope, trace_id, seconds.map(Duration::from_secs))
            });
        if let Some(refusal) = refusal {
            return Error::Refused(refusal);
        }
        let number = status.as_u16();
        if status.is_redirection() {
            let place = text(LOCATION.as_str()).unwrap_or("another address");
            return self.malformed(format!(
                "it redirects to {place}, where the key is not sent; set the final address"
            ));
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Error::Unreachable {
                address: self.address().to_owned(),
                reason: format!("something in front of it answered with status {number}"),
                status: Some(status),
            };
        }
        self.malformed(format!(
            "it answered with status {number} and no error that an authority writes"
        ))
    }

    fn unreachable(&self, reason: impl Into<String>) -> Error {
        Error::Unreachable {
            address: self.address().to_owned(),
            reason: reason.into(),
            status: None,
        }
    }

    pub(crate) fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::Malformed {
            address: self.address().to_owned(),
            reason: reason.into(),
        }
    }
}

/// The header that carries a key or token, marked so that nobody prints it.
pub(crate) fn bearer(secret: &str) -> Result<HeaderValue, SettingsError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {secret}"))
        .ok()
        .filter(|_| !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or_else(|| {
            SettingsError::Key(
                "the key or token has characters that none has; copy it again, it is one word"
                    .to_owned(),
            )
        })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether a request may be sent twice: if a connection breaks, nobody knows whether the first one arrived.
fn changes_nothing(method: &Method, path: &str) -> bool {
    // To show a key again is noted in the change log each time.
    (*method == Method::GET && !path.ends_with("/secret_key"))
        || path.ends_with("/m2m_tokens/verify")
}

/// Whether a body is what an authority sends. A page in front of it could contain any text.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// When the authority wrote the answer, by its own clock, to the second.
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok()
}
