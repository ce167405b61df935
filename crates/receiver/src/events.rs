//! What a program may count: the receiver tells, and chooses no metrics library for anybody.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::caller::{Caller, MachineCaller};
use crate::refusal::Reason;

/// Something that happened. What it holds is from fixed sets or made by the authority, never a token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request was let in.
    #[non_exhaustive]
    Accepted {
        /// Who called.
        caller: &'a Caller,
    },
    /// A request was not let in.
    #[non_exhaustive]
    Refused {
        /// Why.
        reason: Reason,
    },
    /// The authority was asked about a token.
    #[non_exhaustive]
    AuthorityAsked {
        /// Why the token is not good, or `None` where it is.
        refused: Option<Reason>,
        /// How long it took, the wait for a turn included.
        took: Duration,
    },
    /// The authority could not be asked, and what it said a while ago counted instead
    /// ([`ReceiverBuilder::stale_if_error`](crate::ReceiverBuilder::stale_if_error)).
    #[non_exhaustive]
    StaleUsed {
        /// Whose token it is.
        caller: &'a MachineCaller,
        /// How old the answer is.
        age: Duration,
    },
    /// An issuer's key set was fetched.
    #[non_exhaustive]
    KeysFetched {
        /// Its address.
        url: &'a str,
        /// Whether there is a set.
        is_success: bool,
    },
}

type Observer = dyn for<'a> Fn(&Event<'a>) + Send + Sync;

/// Who is told, if anybody.
#[derive(Clone, Default)]
pub(crate) struct Events(Option<Arc<Observer>>);

impl Events {
    pub(crate) fn to(observer: impl for<'a> Fn(&Event<'a>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observer)))
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.0 {
            observer(event);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Events")
            .field(&self.0.is_some())
            .finish()
    }
}
