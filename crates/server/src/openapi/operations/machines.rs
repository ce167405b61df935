//! Machines, their keys and scopes.

use countersign_protocol::body::{
    DeletedMachine, Machine, MachineList, MachineScope, MachineSecretKey,
};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::MachineId;
use countersign_protocol::limits::MAX_MACHINES_PAGE;
use countersign_protocol::request::{KeyRotation, MachineRequest, MachineUpdate, ScopeRequest};
use serde_json::json;

use super::{
    Description, MACHINE_KEYS, MACHINES, SCOPES, body_problems, body_problems_of, not_found,
    page_problems,
};
use crate::openapi::refusals::Refusal;

fn no_machine() -> Refusal {
    not_found("Resource not found: no machine mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk")
}

/// An operation on the machine in the path.
fn of_machine(
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    text: &'static str,
) -> Description {
    Description::new(id, tag, summary, text)
        .path::<MachineId>("machine_id", "The machine's id.")
        .refuses([no_machine()])
}

fn name_problems() -> [Refusal; 3] {
    [
        Refusal::saying(
            ErrorCode::FormParamMinLengthExceeded,
            "name should have at least 1 characters.",
        )
        .about("name"),
        Refusal::saying(
            ErrorCode::FormParamMaxLengthExceeded,
            "name should not exceed 255 characters.",
        )
        .about("name"),
        Refusal::saying(
            ErrorCode::FormParamFormatInvalid,
            "name must not contain the character U+0000.",
        )
        .about("name"),
    ]
}

fn ttl_problems() -> [Refusal; 2] {
    [
        Refusal::saying(
            ErrorCode::FormParamValueInvalid,
            "default_token_ttl must be at least 1 second.",
        )
        .about("default_token_ttl"),
        Refusal::saying(
            ErrorCode::FormParamValueTooLarge,
            "default_token_ttl must be at most 315360000.",
        )
        .about("default_token_ttl"),
    ]
}

fn missing(param: &'static str, long_message: &'static str) -> Refusal {
    Refusal::saying(ErrorCode::FormParamMissing, long_message).about(param)
}

pub(crate) fn list() -> Description {
    let order = [
        "-created_at",
        "+created_at",
        "created_at",
        "-name",
        "+name",
        "name",
    ];
    Description::new(
        "listMachines",
        MACHINES,
        "List machines",
        "The machines of the instance, each with those that it may call. `query` finds one by its id or several by a part of \
         their name, in any case.",
    )
    .paged(MAX_MACHINES_PAGE)
    .query("query", "A machine's whole id, or a part of a name.", json!({ "type": "string" }))
    .query(
        "order_by",
        "What to sort by: `-` for descending, `+` or nothing for ascending.",
        json!({ "type": "string", "enum": order, "default": "-created_at" }),
    )
    .answers::<MachineList>("The machines.", "{}")
    .refuses(page_problems())
    .refuses([Refusal::saying(
        ErrorCode::FormParamValueInvalid,
        "order_by must be name or created_at, with + or - in front or nothing.",
    )
    .about("order_by")])
}

pub(crate) fn create() -> Description {
    Description::new(
        "createMachine",
        MACHINES,
        "Create a machine",
        "Makes a machine and its key, and lets it call the machines named in `scoped_machines`. To let others call it, give them \
         scopes to it afterwards.",
    )
    .body::<MachineRequest>(&[
        ("plain", "A machine", r#"{"name":"billing"}"#),
        (
            "scoped",
            "A machine that may call another",
            r#"{"name":"billing","scoped_machines":["mch_2yGkLpQ7Y3rXSwtU24CzTk9I7Em"],"default_token_ttl":3600}"#,
        ),
    ])
    .answers::<Machine>("The machine, and its key.", "{}").shaped("MachineCreated")
    .refuses([missing("name", "name must be included.")])
    .refuses(body_problems())
    .refuses(name_problems())
    .refuses(ttl_problems())
    .refuses([
        Refusal::saying(ErrorCode::FormParamArraySizeExceeded, "scoped_machines should not exceed 150 items.")
            .about("scoped_machines"),
        Refusal::saying(
            ErrorCode::FormResourceNotFound,
            "The resource associated with the supplied scoped_machines was not found.",
        )
        .about("scoped_machines"),
    ])
}

pub(crate) fn get() -> Description {
    of_machine(
        "getMachine",
        MACHINES,
        "Show a machine",
        "One machine, with those that it may call.",
    )
    .answers::<Machine>("The machine.", "{}")
}

pub(crate) fn update() -> Description {
    of_machine(
        "updateMachine",
        MACHINES,
        "Rename a machine or change how long its tokens live",
        "Changes what is given and leaves the rest; a body without members, or none, changes nothing. Tokens that exist already \
         keep their end.",
    )
    .optional_body::<MachineUpdate>(&[("both", "Both", r#"{"name":"billing (EU)","default_token_ttl":900}"#)])
    .answers::<Machine>(
        "The machine as it is now.",
        r#"{"name":"billing (EU)","default_token_ttl":900,"updated_at":1767229200000}"#,
    )
    .refuses(body_problems())
    .refuses(name_problems())
    .refuses(ttl_problems())
}

pub(crate) fn delete() -> Description {
    of_machine(
        "deleteMachine",
        MACHINES,
        "Delete a machine",
        "From this answer on its keys and tokens are refused, and all scopes from it and to it are gone. There is no way back.",
    )
    .answers::<DeletedMachine>("The machine is gone.", "{}")
}

pub(crate) fn secret_key() -> Description {
    of_machine(
        "getMachineSecretKey",
        MACHINE_KEYS,
        "Show a machine's key",
        "The newest key of the machine. Each time is in the change log. At most ten times a minute for an instance, and not at \
         all where its setting `secret_reveal` is off.",
    )
    .answers::<MachineSecretKey>("The key.", "{}")
    .refuses([Refusal::saying(
        ErrorCode::AuthorizationInvalid,
        "You are not authorized to perform this request: this instance does not show secrets again (secret_reveal is off); \
         rotate the key for a new one",
    )])
}

pub(crate) fn rotate_secret_key() -> Description {
    let param = "previous_token_ttl";
    of_machine(
        "rotateMachineSecretKey",
        MACHINE_KEYS,
        "Give a machine a new key",
        "The new key works at once. The older ones go on working for `previous_token_ttl` seconds, so that the machine can be \
         given the new one without an outage. Tokens are not concerned. A machine has at most five keys; the oldest goes.",
    )
    .body::<KeyRotation>(&[
        ("gently", "The old key works for an hour", r#"{"previous_token_ttl":3600}"#),
        ("at_once", "The old key is out", r#"{"previous_token_ttl":0}"#),
    ])
    .answers::<MachineSecretKey>("The new key.", "{}")
    .refuses([missing(param, "previous_token_ttl must be included.")])
    .refuses(body_problems_of(param, "`previous_token_ttl` must be an integer."))
    .refuses([
        Refusal::saying(ErrorCode::FormParamValueInvalid, "previous_token_ttl must be at least 0 seconds.").about(param),
        Refusal::saying(ErrorCode::FormParamValueTooLarge, "previous_token_ttl must be at most 28800.").about(param),
    ])
}

pub(crate) fn create_scope() -> Description {
    let param = "to_machine_id";
    of_machine(
        "createMachineScope",
        SCOPES,
        "Let a machine call another",
        "The machine in the path may call `to_machine_id` with every token that it makes from now on. The other direction is a \
         scope of its own. A machine may call at most 150 others.",
    )
    .body::<ScopeRequest>(&[("scope", "A scope", r#"{"to_machine_id":"mch_2yGkLpQ7Y3rXSwtU24CzTk9I7Em"}"#)])
    .answers::<MachineScope>("The scope.", "{}")
    .refuses([missing(param, "to_machine_id must be included.")])
    .refuses(body_problems_of(param, "`to_machine_id` must be a string."))
    .refuses([
        Refusal::saying(
            ErrorCode::FormParamValueInvalid,
            "to_machine_id must be another machine than the one that calls.",
        )
        .about(param),
        Refusal::saying(ErrorCode::FormParamArraySizeExceeded, "scoped_machines should not exceed 150 items.")
            .about("scoped_machines"),
        Refusal::saying(
            ErrorCode::Conflict,
            "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk may call mch_2yGkLpQ7Y3rXSwtU24CzTk9I7Em already",
        ),
    ])
}

pub(crate) fn delete_scope() -> Description {
    of_machine(
        "deleteMachineScope",
        SCOPES,
        "Let a machine no longer call another",
        "Tokens that the machine makes from now on are not for the other one. Tokens that exist already stay good until their \
         end; revoke them where that is too late.",
    )
    .path::<MachineId>("other_machine_id", "The machine that is called.")
    .example("mch_2yGkLpQ7Y3rXSwtU24CzTk9I7Em")
    .answers::<MachineScope>("The scope is gone.", "{}").shaped("DeletedMachineScope")
}
