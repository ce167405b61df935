//! Checks which host a request names.

use std::net::IpAddr;

use countersign_protocol::error::ErrorCode;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Uri, Version};

use crate::reply::ApiError;

/// Which requests must name this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// None.
    Nothing,
    /// Those for the metrics.
    Metrics,
    /// All.
    Everything,
}

/// The hosts that requests may name.
pub(crate) struct Hosts {
    local: Local,
    /// The host of the public URL.
    public: String,
}

impl Hosts {
    pub(crate) fn new(local: Local, public_url: &str) -> Self {
        let uri: Option<Uri> = public_url.parse().ok();
        let public = uri.and_then(|uri| uri.host().map(str::to_owned));
        Self {
            local,
            public: public.unwrap_or_default(),
        }
    }

    /// Refuses a request over HTTP/1.1 without exactly one valid `Host` (RFC 9112 section 3.2), and one that must name this
    /// machine and does not. A web page can give its own name this machine's address (DNS rebinding); then its requests arrive
    /// here, but they still name the page's host.
    pub(crate) fn check(&self, head: &Parts, is_for_metrics: bool) -> Result<(), ApiError> {
        let mut lines = head.headers.get_all(HOST).iter();
        let (line, is_alone) = (lines.next(), lines.next().is_none());
        let host = line.and_then(authority);
        let is_valid = match line {
            Some(line) => is_alone && (line.is_empty() || host.is_some()),
            None => head.version != Version::HTTP_11,
        };
        if !is_valid {
            return Err(ApiError::saying(
                ErrorCode::HostInvalid,
                "A request over HTTP/1.1 must have exactly one Host header, with a host and optionally a port",
            ));
        }
        let must_be_local = match self.local {
            Local::Nothing => false,
            Local::Metrics => is_for_metrics,
            Local::Everything => true,
        };
        let named = head.uri.authority().or(host.as_ref());
        if must_be_local && !named.is_some_and(|named| self.is_local(named.host())) {
            return Err(ApiError::saying(
                ErrorCode::HostInvalid,
                "Only requests from this machine are answered here: use localhost or an IP address as the host",
            ));
        }
        Ok(())
    }

    fn is_local(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || host.ends_with(".localhost")
            || host == self.public.to_ascii_lowercase()
    }
}

fn authority(line: &HeaderValue) -> Option<Authority> {
    let authority = Authority::try_from(line.as_bytes()).ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}
