//! Defines an operation of the API: everything that is decided per operation, in one row. The table of rows is in `route`.

use std::pin::Pin;

use countersign_authority::{Accepts, Operator};
use http::Method;
use schemars::{JsonSchema, SchemaGenerator};

use crate::call::{Call, Exposure};
use crate::fields::Presence;
use crate::openapi::schemas::Describe;
use crate::pace::Pace;
use crate::reply::{Answer, ApiError, Habit};

/// A handler at work.
pub(crate) type Handling<'a> = Pin<Box<dyn Future<Output = Result<Answer, ApiError>> + Send + 'a>>;

/// Answers a request.
pub(crate) type Handler = for<'a> fn(&'a Call<'a>) -> Handling<'a>;

/// Answers a request at the operator's door. The handler itself finds the instance or machine that the request names.
pub(crate) type DoorHandler = for<'a> fn(&'a Call<'a>, &'a Operator) -> Handling<'a>;

/// The prefix under which an operation's path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// With and without `/v1`.
    Optional,
    /// None.
    None,
}

/// The listeners that serve an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listeners {
    Api,
    Metrics,
    All,
}

/// An operation: a row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Name in metrics and logs.
    pub(crate) name: &'static str,
    pub(crate) method: &'static Method,
    /// `{…}` stands for one segment.
    pub(crate) path: &'static str,
    pub(crate) prefix: Prefix,
    /// The keys that may call. `None` for public operations.
    pub(crate) accepts: Option<Accepts>,
    /// Whether the handler checks the credential, because the check is one with the rest of its work.
    pub(crate) checks_credential: bool,
    /// Wording of its errors.
    pub(crate) habit: Habit,
    pub(crate) pace: Pace,
    pub(crate) listeners: Listeners,
    pub(crate) handler: Handler,
    /// The handler at the operator's door. If `None`, `handler` answers there too, for the actor that the request names.
    pub(crate) at_door: Option<DoorHandler>,
    /// The types of its query, its body, and its answer if that is JSON.
    pub(crate) query: Option<Describe>,
    pub(crate) request: Option<Describe>,
    pub(crate) answer: Option<Describe>,
    /// Whether it needs a body.
    pub(crate) presence: Presence,
    /// Its id in the OpenAPI document and what people read about it. `None` for operations that are no part of the API.
    pub(crate) described: Option<(&'static str, &'static str)>,
}

impl Row {
    /// Returns an operation under `/v1`, for callers with a key, with errors as the service for machines words them.
    pub(crate) const fn api(
        name: &'static str,
        method: &'static Method,
        path: &'static str,
        accepts: Accepts,
        handler: Handler,
    ) -> Self {
        Self {
            name,
            method,
            path,
            prefix: Prefix::Optional,
            accepts: Some(accepts),
            checks_credential: false,
            habit: Habit::Parameters,
            pace: Pace::Queued,
            listeners: Listeners::Api,
            handler,
            at_door: None,
            query: None,
            request: None,
            answer: None,
            presence: Presence::Required,
            described: None,
        }
    }

    /// Returns an operation for everybody, as its path stands.
    pub(crate) const fn public(name: &'static str, path: &'static str, handler: Handler) -> Self {
        Self {
            prefix: Prefix::None,
            accepts: None,
            ..Self::api(name, &Method::GET, path, Accepts::Any, handler)
        }
    }

    /// Puts the path under `/v1` as well.
    pub(crate) const fn versioned(self) -> Self {
        Self {
            prefix: Prefix::Optional,
            ..self
        }
    }

    /// Words errors as the service for tokens does.
    pub(crate) const fn bad_request(self) -> Self {
        Self {
            habit: Habit::BadRequest,
            ..self
        }
    }

    /// Answers from memory or by a point read.
    pub(crate) const fn at_once(self) -> Self {
        Self {
            pace: Pace::AtOnce,
            ..self
        }
    }

    pub(crate) const fn checks_credential(self) -> Self {
        Self {
            checks_credential: true,
            ..self
        }
    }

    pub(crate) const fn on(self, listeners: Listeners) -> Self {
        Self { listeners, ..self }
    }

    pub(crate) const fn at_door(self, handler: DoorHandler) -> Self {
        Self {
            at_door: Some(handler),
            ..self
        }
    }

    /// Takes parameters in the query.
    pub(crate) const fn asks<T: JsonSchema>(self) -> Self {
        Self {
            query: Some(SchemaGenerator::subschema_for::<T>),
            ..self
        }
    }

    /// Takes a body.
    pub(crate) const fn takes<T: JsonSchema>(self) -> Self {
        Self {
            request: Some(SchemaGenerator::subschema_for::<T>),
            ..self
        }
    }

    /// Takes a body that may be absent.
    pub(crate) const fn may_take<T: JsonSchema>(self) -> Self {
        Self {
            presence: Presence::Optional,
            ..self.takes::<T>()
        }
    }

    /// Answers with JSON of this type.
    pub(crate) const fn answers<T: JsonSchema>(self) -> Self {
        Self {
            answer: Some(SchemaGenerator::subschema_for::<T>),
            ..self
        }
    }

    /// Is a part of the API.
    pub(crate) const fn described(self, id: &'static str, text: &'static str) -> Self {
        Self {
            described: Some((id, text)),
            ..self
        }
    }

    /// Returns whether a listener serves the operation.
    pub(crate) fn is_served_by(&self, exposure: Exposure) -> bool {
        match self.listeners {
            Listeners::All => true,
            Listeners::Api => exposure != Exposure::Metrics,
            Listeners::Metrics => exposure != Exposure::Api,
        }
    }
}
