//! The check as a layer of a tower stack. It lets a request pass with its [`Caller`] in the extensions, or answers itself.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::accept::Accept;
use crate::caller::Caller;
use crate::receiver::Receiver;

impl Receiver {
    /// A layer that lets in whom `accept` names, and puts the [`Caller`] into the request's extensions.
    #[must_use]
    pub fn layer(&self, accept: Accept) -> CheckLayer {
        self.log_gaps(&accept);
        CheckLayer {
            receiver: self.clone(),
            accept: Arc::new(accept),
        }
    }
}

/// Puts a check before services; made by [`Receiver::layer`].
#[derive(Clone, Debug)]
pub struct CheckLayer {
    receiver: Receiver,
    accept: Arc<Accept>,
}

impl<S> Layer<S> for CheckLayer {
    type Service = CheckService<S>;

    fn layer(&self, inner: S) -> CheckService<S> {
        CheckService {
            layer: self.clone(),
            inner,
        }
    }
}

/// A service behind a check. The body of its answers must be makeable from a text.
#[derive(Clone)]
pub struct CheckService<S> {
    layer: CheckLayer,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for CheckService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Only this layer says who calls.
        request.extensions_mut().remove::<Caller>();
        let CheckLayer { receiver, accept } = &self.layer;
        match receiver.check_at_once(request.headers(), accept) {
            Some(Ok(caller)) => {
                request.extensions_mut().insert(caller);
                return Box::pin(self.inner.call(request));
            }
            Some(Err(refusal)) => return Box::pin(async move { Ok(refusal.to_response()) }),
            None => {}
        }
        // The one that is ready goes with the request, a copy of it waits for the next.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let CheckLayer { receiver, accept } = self.layer.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match receiver.check(&parts.headers, &accept).await {
                Ok(caller) => {
                    parts.extensions.insert(caller);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(refusal) => Ok(refusal.to_response()),
            }
        })
    }
}

impl<S> fmt::Debug for CheckService<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CheckService")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}
