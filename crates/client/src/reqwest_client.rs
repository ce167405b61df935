//! A wrapper for reqwest's client: it puts the token on each request, and repeats a request once with another token after a
//! 401 where its body can be repeated.

use reqwest::{Client, IntoUrl, Method, Request, RequestBuilder, Response, StatusCode};
use thiserror::Error;

use crate::error::Error;
use crate::source::TokenSource;
use crate::tokens::TokenString;
use crate::transport::words;

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
    /// reqwest's own error, with its cause.
    #[error("{}", described(.0))]
    Http(#[from] reqwest::Error),
}

fn described(error: &reqwest::Error) -> String {
    match error.url() {
        Some(url) => format!("{url}: {}", words(error)),
        None => words(error),
    }
}

/// A request that goes out with a token.
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct TokenRequest {
    client: ReqwestClient,
    request: RequestBuilder,
}

impl TokenRequest {
    /// Adds what reqwest's builder can: headers, a body, a query.
    pub fn with(self, change: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        Self {
            request: change(self.request),
            ..self
        }
    }

    /// Sends it, as [`ReqwestClient::execute`] does.
    ///
    /// # Errors
    /// [`ReqwestError`], each kind of it. A status is no error.
    pub async fn send(self) -> Result<Response, ReqwestError> {
        self.client.execute(self.request).await
    }
}

impl ReqwestClient {
    /// Puts tokens on the requests of this client.
    #[must_use]
    pub fn new(http: Client, tokens: TokenSource) -> Self {
        Self { http, tokens }
    }

    /// Begins a GET request.
    pub fn get(&self, url: impl IntoUrl) -> TokenRequest {
        self.request(Method::GET, url)
    }

    /// Begins a POST request.
    pub fn post(&self, url: impl IntoUrl) -> TokenRequest {
        self.request(Method::POST, url)
    }

    /// Begins a request.
    pub fn request(&self, method: Method, url: impl IntoUrl) -> TokenRequest {
        TokenRequest {
            client: self.clone(),
            request: self.http.request(method, url),
        }
    }

    /// Sends a request that reqwest's own builder made. One that has an `Authorization` header already is sent as it is.
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
