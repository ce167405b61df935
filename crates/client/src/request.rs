//! A request and the type of its answer's body. The requests themselves are beside the methods that send them.

use std::marker::PhantomData;

use http::Method;
use serde::Serialize;

/// A request whose answer has a body of type `T`.
pub struct Request<T> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<String>,
    answer: PhantomData<fn() -> T>,
}

impl<T> Request<T> {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: None,
            answer: PhantomData,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self::new(Method::POST, path).with(body)
    }

    pub(crate) fn patch(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self::new(Method::PATCH, path).with(body)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    fn with(mut self, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("requests are made of texts and numbers");
        self.body = Some(body);
        self
    }

    /// Returns the path below `/v1`, with its query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl<T> Clone for Request<T> {
    fn clone(&self) -> Self {
        Self {
            method: self.method.clone(),
            path: self.path.clone(),
            body: self.body.clone(),
            answer: PhantomData,
        }
    }
}

impl<T> std::fmt::Debug for Request<T> {
    /// Without the body, which may hold a token.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
