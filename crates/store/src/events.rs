//! Builds the events for changed rows. All back ends use these functions, so that they write the same records.

use std::sync::Arc;

use countersign_protocol::change::{Cause, Changed, Event, changed_settings};
use countersign_protocol::time::Timestamp;

use crate::instances::Instance;
use crate::machines::{MachineRow, NewMachine};
use crate::tokens::TokenRow;

/// Builds the event for a created machine.
pub(crate) fn machine_created(new: &NewMachine) -> Event {
    Event::MachineCreated {
        machine_id: new.id,
        name: new.name.clone(),
        default_token_ttl: new.default_token_ttl,
        scoped_machines: new.scopes.clone(),
        key_id: new.key.id,
    }
}

/// Builds the event for an updated machine.
pub(crate) fn machine_updated(before: &MachineRow, after: &MachineRow) -> Event {
    Event::MachineUpdated {
        machine_id: after.id,
        name: Changed {
            from: before.name.clone(),
            to: after.name.clone(),
        },
        default_token_ttl: Changed {
            from: before.default_token_ttl,
            to: after.default_token_ttl,
        },
    }
}

/// Builds the event for changed settings.
pub(crate) fn instance_updated(before: &Instance, after: &Instance) -> Event {
    Event::InstanceUpdated {
        instance_id: after.id,
        settings: changed_settings(&before.settings, &after.settings),
        local_since: after.local_since,
    }
}

/// Builds the event for a revoked token.
pub(crate) fn token_revoked(
    token: &TokenRow,
    instance: &Instance,
    reason: Option<Arc<str>>,
) -> Event {
    Event::TokenRevoked {
        token: token.facts(instance),
        reason,
    }
}

/// Builds the event for a changed token, with its new values. A change that also revokes the token is recorded as a
/// revocation, because receivers must learn of the revocation.
pub(crate) fn token_changed(after: &TokenRow, instance: &Instance, claims_replaced: bool) -> Event {
    match &after.revoked {
        Some(revoked) => token_revoked(after, instance, revoked.reason.clone()),
        None => Event::TokenUpdated {
            token: after.facts(instance),
            claims_replaced,
        },
    }
}

/// Returns why a signing key was deleted. Only the schedule passes `unused_since`.
pub(crate) fn deletion_cause(unused_since: Option<Timestamp>) -> Cause {
    match unused_since {
        Some(_) => Cause::Schedule,
        None => Cause::Request,
    }
}
