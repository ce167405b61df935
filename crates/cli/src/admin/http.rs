//! A small HTTP client: one request per connection, TLS with the operating system's certificate authorities, no redirects (a
//! key would go along), and a bound on time and size.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_protocol::secret::Secret;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::exit::{Code, Failure};

/// How long name, connection and TLS may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the whole answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer: a thousand changes or five hundred machines with their scopes fit many times.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// An authority's address.
#[derive(Debug)]
pub(crate) struct Base {
    is_tls: bool,
    host: String,
    port: u16,
    /// Host and port as the `Host` header has them.
    authority: String,
    /// What stands before `/v1`; usually nothing.
    prefix: String,
}

impl Base {
    /// Reads `http://host`, `https://host:port/v1` and the like.
    pub(crate) fn parse(url: &str, allows_plain: bool) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::new(
                Code::Settings,
                format!("the address '{url}' cannot be used: {why}"),
                "write it like https://auth.example.com, with or without /v1",
            )
        };
        let uri: Uri = url.trim().parse().map_err(|_| wrong("it is no URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it must begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(Failure::new(
                Code::Settings,
                "the address holds a name or password",
                "keys go into CLERK_SECRET_KEY, never into the address",
            ));
        }
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if !is_tls && !allows_plain && !is_loopback(&host) {
            return Err(Failure::new(
                Code::Settings,
                format!("{url} would send the key in plain text to another machine"),
                "use https://, or give --insecure-http where the way there is safe",
            ));
        }
        let port = authority
            .port_u16()
            .unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/');
        let prefix = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        Ok(Self {
            is_tls,
            host,
            port,
            authority: authority.as_str().to_owned(),
            prefix,
        })
    }

    /// The address for messages.
    pub(crate) fn shown(&self) -> String {
        format!(
            "{}://{}{}",
            if self.is_tls { "https" } else { "http" },
            self.authority,
            self.prefix
        )
    }

    /// Says that an authority answers here which does not know `path`.
    pub(crate) fn no_such_path(&self, path: &str) -> Failure {
        let path = path.split('?').next().unwrap_or_default();
        let (shown, prefix) = (self.shown(), &self.prefix);
        if prefix.is_empty() {
            return Failure::new(
                Code::Unreachable,
                format!("the authority at {shown} has no path /v1{path}"),
                "it may be older than this program: compare the versions",
            );
        }
        let origin = shown.strip_suffix(prefix.as_str()).unwrap_or(&shown);
        Failure::new(
            Code::Unreachable,
            format!(
                "the address {shown} is wrong: the authority there has no path {prefix}/v1{path}"
            ),
            format!("leave {prefix} out of the address: {origin}, with or without /v1"),
        )
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(
            Code::Unreachable,
            format!("cannot reach {}: {why}", self.shown()),
            "is the authority running, and is the address right? `countersign dev` starts one on http://127.0.0.1:4840",
        )
    }

    /// Sends one request below `/v1` and reads the whole answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        key: &Secret,
        body: Option<String>,
    ) -> Result<Response<Bytes>, Failure> {
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| {
                Failure::new(
                    Code::Settings,
                    "the key has characters that no key has",
                    "copy it again; it is one word of letters and digits",
                )
            })?;
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/v1{path}", self.prefix))
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json")
            .header(
                USER_AGENT,
                concat!("countersign/", env!("CARGO_PKG_VERSION")),
            );
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| self.unreachable(error))?;

        let connected =
            tokio::time::timeout(CONNECT, TcpStream::connect((self.host.as_str(), self.port)))
                .await;
        let stream = connected
            .map_err(|_| self.unreachable("no connection within 10 s"))?
            .map_err(|error| self.unreachable(error))?;
        let answer = if self.is_tls {
            let handshake = tokio::time::timeout(CONNECT, self.tls(stream)?).await;
            let stream = handshake
                .map_err(|_| self.unreachable("no TLS within 10 s"))?
                .map_err(|error| self.untrusted(&error))?;
            tokio::time::timeout(ANSWER, talk(stream, request)).await
        } else {
            tokio::time::timeout(ANSWER, talk(stream, request)).await
        };
        let answer = answer
            .map_err(|_| self.unreachable("no answer within 30 s"))?
            .map_err(|error| self.unreachable(error))?;
        if answer.status().is_redirection() {
            let place = answer
                .headers()
                .get(LOCATION)
                .and_then(|place| place.to_str().ok())
                .unwrap_or("somewhere else");
            return Err(self
                .unreachable(format!("it redirects to {place}"))
                .with_hint("a key is not sent on; give the final address with --url"));
        }
        Ok(answer)
    }

    fn tls(&self, stream: TcpStream) -> Result<tokio_rustls::Connect<TcpStream>, Failure> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(self
                .unreachable("this machine has no certificate authorities to check it against")
                .with_hint(
                    "install the package ca-certificates, or name a PEM file in SSL_CERT_FILE",
                ));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| self.unreachable(error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name =
            ServerName::try_from(self.host.clone()).map_err(|error| self.unreachable(error))?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, stream))
    }

    fn untrusted(&self, error: &std::io::Error) -> Failure {
        let fault = error.get_ref().and_then(|fault| fault.downcast_ref());
        if matches!(fault, Some(rustls::Error::InvalidMessage(_))) {
            return self
                .unreachable("what answers there does not speak TLS")
                .with_hint(format!(
                    "plain HTTP may be spoken there: http://{}{}",
                    self.authority, self.prefix
                ));
        }
        self.unreachable(error).with_hint(
            "is the certificate for this name, and is its authority known here? An own one goes to the system's certificates, or into SSL_CERT_FILE",
        )
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

async fn talk<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer, when `sender` is dropped.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES)
        .collect()
        .await?
        .to_bytes();
    Ok(Response::from_parts(head, body))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_end_in_v1_or_not() {
        for url in [
            "https://a.example",
            "https://a.example/",
            "https://a.example/v1",
            "https://a.example/v1/",
        ] {
            let base = Base::parse(url, false).expect("good");
            assert_eq!(
                (base.host.as_str(), base.port, base.prefix.as_str()),
                ("a.example", 443, ""),
                "{url}"
            );
        }
        let base = Base::parse("https://a.example:8443/auth/v1", false).expect("good");
        assert_eq!(
            (base.port, base.prefix.as_str(), base.authority.as_str()),
            (8443, "/auth", "a.example:8443")
        );
    }

    #[test]
    fn keys_are_not_sent_in_the_clear_to_other_machines() {
        for url in [
            "http://127.0.0.1:4840",
            "http://localhost/v1",
            "http://[::1]:1",
            "https://a.example",
        ] {
            assert!(Base::parse(url, false).is_ok(), "{url}");
        }
        for url in [
            "http://a.example",
            "http://10.0.0.1:4840",
            "http://localhost.example",
            "http://0.0.0.0",
        ] {
            assert!(Base::parse(url, false).is_err(), "{url}");
            assert!(Base::parse(url, true).is_ok(), "{url}");
        }
        for url in [
            "a.example",
            "ftp://a.example",
            "https://",
            "https://user:secret@a.example",
            "https://a.example?x=1",
            "",
        ] {
            assert!(Base::parse(url, true).is_err(), "{url}");
        }
    }
}
