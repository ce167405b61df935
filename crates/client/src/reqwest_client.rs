//! A wrapper for reqwest's client: it puts the token on each request, and repeats a request once with another token after a
//! 401 where its body can be repeated.

use reqwest::{Client, IntoUrl, Method, Request, RequestBuilder, Response, StatusCode};
use thiserror::Error;

use crate::error::Error;
use crate::source::TokenSource;
use crate::tokens::TokenString;

/// reqwest's client with tokens.
#[derive(Clone, Debug)]
pub struct ReqwestClient {
    http: Client,
    tokens: TokenSource,
}

/// Why there is no response.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReqwestError {
    /// There is no token to send. Nothing was sent.
    #[error("no token: {0}")]
    Token(Error),
    /// reqwest's own error.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

impl ReqwestClient {
    /// Puts tokens on the requests of this client.
    #[must_use]
    pub fn new(http: Client, tokens: TokenSource) -> Self {
        Self { http, tokens }
    }

    /// Begins a request, to be given to [`execute`](Self::execute).
    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// Sends a request. One that has an `Authorization` header already is sent as it is.
    ///
    /// # Errors
    /// [`ReqwestError`], each kind of it. A status is no error.
    pub async fn execute(&self, request: RequestBuilder) -> Result<Response, ReqwestError> {
        let request = request.build()?;
        let has_credential = request.headers().contains_key(http::header::AUTHORIZATION);
        if self.tokens.is_off() || has_credential {
            return Ok(self.http.execute(request).await?);
        }
        let token = self.tokens.token().await.map_err(ReqwestError::Token)?;
        let again = request.try_clone();
        let response = self.http.execute(with_token(request, &token)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // Even where this request cannot be repeated, the next ones go out with another token. Where there is none, the 401 says
        // more than why.
        let replacement = self.tokens.replacement(&token).await;
        match (again, replacement) {
            (Some(again), Ok(Some(token))) => {
                Ok(self.http.execute(with_token(again, &token)).await?)
            }
            _ => Ok(response),
        }
    }
}

fn with_token(mut request: Request, token: &TokenString) -> Request {
    let headers = request.headers_mut();
    headers.insert(http::header::AUTHORIZATION, token.authorization());
    request
}
