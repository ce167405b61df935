//! A layer for any HTTP client that is a tower service: it puts the token on each request, and repeats a request once with
//! another token after a 401.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use thiserror::Error;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::Error;
use crate::source::TokenSource;
use crate::tokens::TokenString;

/// Puts tokens on the requests of an HTTP client.
///
/// A request that has an `Authorization` header already is sent as it is. The body must be `Clone`, so that the request can be
/// repeated: `Full<Bytes>` and `String` are. For streams, ask the source for the header.
#[derive(Clone, Debug)]
pub struct TokenLayer {
    tokens: TokenSource,
}

impl TokenLayer {
    /// Takes the tokens from here.
    #[must_use]
    pub fn new(tokens: TokenSource) -> Self {
        Self { tokens }
    }
}

impl<S> Layer<S> for TokenLayer {
    type Service = TokenService<S>;

    fn layer(&self, inner: S) -> TokenService<S> {
        TokenService {
            inner,
            tokens: self.tokens.clone(),
        }
    }
}

/// An HTTP client whose requests carry a token.
#[derive(Clone, Debug)]
pub struct TokenService<S> {
    inner: S,
    tokens: TokenSource,
}

/// Why there is no response.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayerError<E = Infallible> {
    /// There is no token to send. Nothing was sent.
    #[error("no token: {0}")]
    Token(Error),
    /// The client's own error.
    #[error("{0}")]
    Inner(E),
}

impl<S, B, R> Service<Request<B>> for TokenService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = LayerError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(LayerError::Inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was asked whether it is ready goes into the future; a fresh clone stays.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let tokens = self.tokens.clone();
        Box::pin(async move {
            if tokens.is_off() || request.headers().contains_key(AUTHORIZATION) {
                return inner.call(request).await.map_err(LayerError::Inner);
            }
            let token = tokens.token().await.map_err(LayerError::Token)?;
            let again = request.clone();
            let response = inner
                .call(with_token(request, &token))
                .await
                .map_err(LayerError::Inner)?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            // Where there is no other token, the 401 says more than why there is none.
            let Ok(Some(token)) = tokens.replacement(&token).await else {
                return Ok(response);
            };
            drop(response);
            std::future::poll_fn(|context| inner.poll_ready(context))
                .await
                .map_err(LayerError::Inner)?;
            inner
                .call(with_token(again, &token))
                .await
                .map_err(LayerError::Inner)
        })
    }
}

fn with_token<B>(mut request: Request<B>, token: &TokenString) -> Request<B> {
    request
        .headers_mut()
        .insert(AUTHORIZATION, token.authorization());
    request
}
