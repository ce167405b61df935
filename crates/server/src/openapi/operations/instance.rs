//! Who am I, and the caller's instance: settings, keys, change log. All extensions.

use countersign_protocol::body::{ChangeList, ChangeLogReport};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::KeyId;
use countersign_protocol::instance::{
    CreatedInstanceKey, DeletedInstanceKey, Instance, InstanceKeyList, WhoAmI,
};
use countersign_protocol::request::{InstanceKeyRequest, InstanceUpdate};

use super::{Description, INSTANCE, START, body_problems_of, not_found, whole_number};
use crate::openapi::refusals::Refusal;

pub(crate) fn who_am_i() -> Description {
    Description::new(
        "whoAmI",
        START,
        "Show what I hold",
        "Tells what the presented credential is: an instance key, a machine key, or a token, be it opaque or a JWT. It is the one \
         operation that takes a token as the credential, so whoever holds one can see what it says.",
    )
    .answers_any::<WhoAmI>("200", "What the credential is.", &[
        ("instance", "An instance key", r#"{"kind":"instance"}"#),
        ("machine", "A machine key", r#"{"kind":"machine"}"#),
        ("token", "A token", r#"{"kind":"token"}"#),
    ])
    .refuses([
        Refusal::new(ErrorCode::AuthorizationHeaderFormatInvalid),
        Refusal::new(ErrorCode::ClerkKeyInvalid),
        Refusal::saying(ErrorCode::MachineSecretKeyInvalid, "The presented token is not valid: expired"),
        Refusal::new(ErrorCode::TooManyRequests),
    ])
}

pub(crate) fn get() -> Description {
    Description::new(
        "getInstance",
        INSTANCE,
        "Show my instance",
        "The instance that the key belongs to, with its settings.",
    )
    .answers::<Instance>("The instance.", "{}")
}

pub(crate) fn update() -> Description {
    Description::new(
        "updateInstance",
        INSTANCE,
        "Change settings",
        "Changes the settings that are given and leaves the others. They hold for the next request. Take care with `rate_limit`: \
         it counts this key's requests as well.",
    )
    .body::<InstanceUpdate>(&[(
        "strict",
        "JWTs of a day at most, keys shown once only",
        r#"{"settings":{"max_jwt_ttl":86400,"secret_reveal":false}}"#,
    )])
    .answers::<Instance>("The instance as it is now.", r#"{"settings":{"max_jwt_ttl":86400,"secret_reveal":false}}"#)
    .refuses([Refusal::saying(ErrorCode::FormParamMissing, "settings must be included.").about("settings")])
    .refuses(body_problems_of("settings", "`settings` must be an object."))
    .refuses([
        Refusal::saying(ErrorCode::FormParamTypeInvalid, "`secret_reveal` must be true or false.").about("secret_reveal"),
        Refusal::saying(ErrorCode::FormParamValueInvalid, "issuer must be a URL in ASCII of at most 255 characters, without a slash at its end.").about("issuer"),
    ])
}

pub(crate) fn list_keys() -> Description {
    Description::new(
        "listInstanceKeys",
        INSTANCE,
        "List instance keys",
        "The keys of the instance, oldest first, those that were revoked included. The keys themselves are never shown again.",
    )
    .answers::<InstanceKeyList>("The keys.", "{}")
}

pub(crate) fn create_key() -> Description {
    Description::new(
        "createInstanceKey",
        INSTANCE,
        "Create an instance key",
        "Another key with the same rights, to replace one without an outage: create, hand out, revoke the old one. At most 20 \
         work at a time.",
    )
    .optional_body::<InstanceKeyRequest>(&[("live", "A key that begins with sk_live_", r#"{"live":true}"#)])
    .answers::<CreatedInstanceKey>("The key. It is shown this once.", "{}")
    .refuses(body_problems_of("live", "`live` must be a boolean."))
    .refuses([Refusal::saying(
        ErrorCode::Conflict,
        "the instance has 20 live keys, which is the maximum; revoke one first",
    )])
}

pub(crate) fn revoke_key() -> Description {
    Description::new(
        "revokeInstanceKey",
        INSTANCE,
        "Revoke an instance key",
        "From this answer on the key is refused, also where it is the one that asks. The last key that works cannot be revoked.",
    )
    .path::<KeyId>("key_id", "The key's id, as the list shows it.")
    .answers::<DeletedInstanceKey>("The key works no longer.", "{}")
    .refuses([
        not_found("Resource not found: no instance key key_5f1c0a9be274"),
        Refusal::saying(ErrorCode::Conflict, "this is the only live key of the instance; create another one first"),
    ])
}

pub(crate) fn list_changes() -> Description {
    let after = "after";
    Description::new(
        "listChanges",
        INSTANCE,
        "Read the change log",
        "Everything that was changed, by whom and when, in order. Programs follow it by asking for what comes after the last \
         sequence number that they saw. A token that a machine creates for itself is no change, nor is a verification.",
    )
    .query(
        after,
        "The last sequence number that is known; the answer begins behind it.",
        whole_number(),
    )
    .answers::<ChangeList>("The entries.", "{}")
    .refuses([
        Refusal::saying(ErrorCode::FormParamTypeInvalid, "`after` must be an integer.").about(after),
        Refusal::saying(ErrorCode::FormParamValueInvalid, "after must be at least 0.").about(after),
        Refusal::saying(ErrorCode::FormParamValueTooLarge, "after must be at most 9007199254740991.").about(after),
        Refusal::saying(ErrorCode::FormParamDuplicate, "after must be included once.").about(after),
    ])
}

pub(crate) fn verify_changes() -> Description {
    let after = "after";
    Description::new(
        "verifyChanges",
        INSTANCE,
        "Check the change log",
        "Checks that no record of the change log is missing, altered or forged. One request checks at most 20,000 records. If \
         `complete` is false, ask again with `after` set to `verified`.",
    )
    .query(
        after,
        "The last sequence number that was verified; the check begins after it.",
        whole_number(),
    )
    .answers::<ChangeLogReport>("The result.", "{}")
    .refuses([
        Refusal::saying(ErrorCode::FormParamTypeInvalid, "`after` must be an integer.").about(after),
        Refusal::saying(ErrorCode::FormParamValueInvalid, "after must be the number of a record of the change log.").about(after),
        Refusal::saying(ErrorCode::FormParamValueTooLarge, "after must be at most 9007199254740991.").about(after),
        Refusal::saying(ErrorCode::FormParamDuplicate, "after must be included once.").about(after),
    ])
}
