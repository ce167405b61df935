//! Instances: tenants, each with its own machines, keys and settings, sealed off from the others.

use std::sync::Arc;

use countersign_protocol::change::{Event, changed_settings};
use countersign_protocol::ids::InstanceId;
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;

/// An instance to be inserted.
#[derive(Clone, Debug)]
pub struct NewInstance {
    /// Its id.
    pub id: InstanceId,
    /// A name for people.
    pub name: String,
    /// Whether it is the authority's default instance. There is at most one.
    pub is_default: bool,
    /// Its settings.
    pub settings: InstanceSettings,
    /// When it was created.
    pub created_at: Timestamp,
}

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// A name for people.
    pub name: String,
    /// Whether it is the authority's default instance, the one whose issuer is the public URL itself.
    pub is_default: bool,
    /// Its settings.
    pub settings: InstanceSettings,
    /// Increases with each change of the settings or of `issued_before`.
    pub revision: i64,
    /// The cut-off: tokens created before it are refused.
    pub issued_before: Option<Timestamp>,
    /// Time since which every JWT of the instance carries a `scopes` claim written by the authority; `None` while it
    /// writes none.
    pub local_since: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Instance {
    /// Returns the instance that this insertion creates.
    #[must_use]
    pub fn new(new: NewInstance) -> Self {
        let local_since = new.settings.jwt_scopes_claim.then_some(new.created_at);
        Self {
            id: new.id,
            name: new.name,
            is_default: new.is_default,
            settings: new.settings,
            revision: 1,
            issued_before: None,
            local_since,
            created_at: new.created_at,
        }
    }

    /// Returns the instance with these settings from `at` on.
    #[must_use]
    pub fn with_settings(&self, settings: InstanceSettings, at: Timestamp) -> Self {
        let local_since = match (settings.jwt_scopes_claim, self.settings.jwt_scopes_claim) {
            (true, true) => self.local_since,
            (true, false) => Some(at.plus_millis(SWITCHING_MILLIS).unwrap_or(at)),
            (false, _) => None,
        };
        Self {
            settings,
            revision: self.revision + 1,
            local_since,
            ..self.clone()
        }
    }

    /// Returns the event for changed settings.
    pub(crate) fn updated_event(&self, before: &Self) -> Event {
        Event::InstanceUpdated {
            instance_id: self.id,
            settings: changed_settings(&before.settings, &self.settings),
            local_since: self.local_since,
        }
    }

    /// Returns the instance with all its tokens ended at `at`. `of_machines` is the latest cut-off of its machines.
    #[must_use]
    pub fn with_tokens_ended(&self, at: Timestamp, of_machines: Option<Timestamp>) -> Self {
        let before = self.issued_before.max(of_machines);
        Self {
            revision: self.revision + 1,
            issued_before: Some(cut_off(before, at)),
            ..self.clone()
        }
    }
}

/// How long a JWT may still lack the `scopes` claim after the claim is turned on, in milliseconds. A request may be in
/// progress, and after a cut-off the `iat` of a JWT may be ahead of the clock. A longer time is safe, but makes
/// receivers ask more often.
const SWITCHING_MILLIS: i64 = 60_000;

/// Returns the cut-off that ends every token created at or before `at`. It is later than `before`, the latest earlier
/// cut-off, because a token issued right after that cut-off has its exact time as creation time. It is also later than
/// the second that contains `before`, because the `iat` of a JWT issued in that second is rounded up to its end.
#[must_use]
pub(crate) fn cut_off(before: Option<Timestamp>, at: Timestamp) -> Timestamp {
    let end_of_second = |before: Timestamp| {
        Timestamp::from_seconds(before.as_seconds_rounded_up()).unwrap_or(before)
    };
    let at = before.map_or(at, |before| end_of_second(before).max(at));
    at.plus_millis(1).unwrap_or(at)
}

/// The outcome of [`crate::Store::update_instance_settings`].
#[derive(Clone, Debug)]
pub enum UpdateSettings {
    /// The settings were replaced.
    Updated(Arc<Instance>),
    /// The instance was changed concurrently. The settings were not replaced.
    Changed,
    /// There is no such instance.
    NotFound,
}
