//! What the receiver asks of others: the authority about tokens, issuers for their keys.
//!
//! These two traits are the seam that tests replace. What an answer means is decided by those who ask.

use std::pin::Pin;
use std::time::Duration;

use countersign_client::{Client, Error, PublicDocument};
use countersign_protocol::error::NO_SUCH_PATH;
use http::{Method, StatusCode};

/// A call under way.
pub(crate) type Asking<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What came back of a question about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Status 200 with this body.
    Ok(Vec<u8>),
    /// A refusal in the authority's own envelope.
    Refused {
        /// The status.
        status: StatusCode,
        /// The code of the first error.
        code: String,
        /// How long to wait.
        retry_after: Option<Duration>,
    },
    /// No answer, or none of an authority.
    Nothing(String),
}

/// Knows about tokens.
pub(crate) trait Ask: Send + Sync {
    /// Asks whether a token is good for this machine.
    fn ask<'a>(&'a self, token: &'a str) -> Asking<'a, Reply>;
}

/// A public document at one address.
pub(crate) trait Document: Send + Sync {
    /// Its address.
    fn url(&self) -> &str;

    /// Fetches it: the body of a 200, or why there is none.
    fn fetch(&self) -> Asking<'_, Result<Vec<u8>, String>>;
}

impl Ask for Client {
    fn ask<'a>(&'a self, token: &'a str) -> Asking<'a, Reply> {
        Box::pin(async move {
            let body = serde_json::json!({ "token": token }).to_string();
            let answer = self
                .request(Method::POST, "/m2m_tokens/verify", Some(body))
                .await;
            match answer {
                Ok(answer) if answer.status() == StatusCode::OK => {
                    Reply::Ok(answer.into_body().to_vec())
                }
                Ok(answer) => Reply::Nothing(format!("status {}", answer.status().as_u16())),
                Err(Error::Refused(refusal)) => {
                    let first = refusal.errors().first();
                    if first.is_some_and(|error| error.long_message == NO_SUCH_PATH) {
                        let address = self.address();
                        return Reply::Nothing(format!(
                            "the authority has nothing at {address}/v1: CLERK_API_URL has a path too many"
                        ));
                    }
                    Reply::Refused {
                        status: refusal.status(),
                        code: refusal.code().to_owned(),
                        retry_after: refusal.retry_after(),
                    }
                }
                // The limit of something in front of the authority, which has no envelope.
                Err(Error::Unreachable {
                    status: Some(StatusCode::TOO_MANY_REQUESTS),
                    ..
                }) => Reply::Refused {
                    status: StatusCode::TOO_MANY_REQUESTS,
                    code: String::new(),
                    retry_after: None,
                },
                Err(error) => Reply::Nothing(error.to_string()),
            }
        })
    }
}

impl Document for PublicDocument {
    fn url(&self) -> &str {
        self.url()
    }

    fn fetch(&self) -> Asking<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let document = self.fetch().await;
            document.map(|it| it.to_vec()).map_err(|it| it.to_string())
        })
    }
}
