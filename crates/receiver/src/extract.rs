//! The caller as an argument of axum's handlers, and a refusal as their answer.
//!
//! The layer decides, the extractors hand over: without the layer a handler that asks who calls is not reached.

use axum_core::body::Body;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::caller::{Caller, MachineCaller, UserCaller};
use crate::refusal::{Reason, Refusal};

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Refusal::new(Reason::NotChecked))
    }
}

impl<S: Sync> FromRequestParts<S> for MachineCaller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Caller::from_request_parts(parts, state).await? {
            Caller::Machine(machine) => Ok(machine),
            _ => Err(Refusal::new(Reason::MachineRequired)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for UserCaller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Caller::from_request_parts(parts, state).await? {
            Caller::User(user) => Ok(user),
            _ => Err(Refusal::new(Reason::UserRequired)),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.to_response::<Body>()
    }
}
