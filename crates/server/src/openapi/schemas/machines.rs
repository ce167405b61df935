//! Machines, their keys and scopes, and what is asked about them.

use countersign_protocol::body::{MachineScopeTag, MachineSecretKeyTag, MachineTag};
use countersign_protocol::limits::{
    DEFAULT_TOKEN_TTL_SECONDS, MAX_PREVIOUS_TOKEN_TTL_SECONDS, MAX_SCOPES, MAX_TOKEN_TTL_SECONDS,
};

use super::*;

fn ttl(description: &'static str) -> Node {
    integer(1, Some(MAX_TOKEN_TTL_SECONDS), description)
}

fn machine_members() -> Vec<(&'static str, Node)> {
    vec![
        ("object", tag::<MachineTag>("What this is.")),
        ("id", machine_id("The machine's id.")),
        (
            "name",
            name("Its name, for people. Several machines may have the same one."),
        ),
        (
            "instance_id",
            matching(INSTANCE_ID, "The instance it belongs to."),
        ),
        (
            "created_at",
            millis("When it was made, in milliseconds since 1970."),
        ),
        (
            "updated_at",
            millis(
                "When its name, token lifetime or scopes last changed, in milliseconds since 1970.",
            ),
        ),
        (
            "default_token_ttl",
            ttl("How many seconds its tokens live where the request names no time."),
        ),
    ]
}

fn scoped_machines() -> (&'static str, Node) {
    (
        "scoped_machines",
        array(
            reference("NestedMachine"),
            "The machines that this one may call, oldest scope first.",
        ),
    )
}

const MACHINE_KEY: &str = "^ak_[0-9A-Za-z_-]+$";

pub(super) fn schemas() -> Vec<(&'static str, Node)> {
    let mut machine = machine_members();
    machine.push(scoped_machines());
    let mut created = machine.clone();
    created.push((
        "secret_key",
        matching(
            MACHINE_KEY,
            "The machine's key. Hand it to the machine, and to nobody else.",
        ),
    ));
    let scope = || {
        vec![
            ("object", tag::<MachineScopeTag>("What this is.")),
            ("from_machine_id", machine_id("The machine that calls.")),
            ("to_machine_id", machine_id("The machine that is called.")),
        ]
    };
    let (mut scope_created, mut scope_deleted) = (scope(), scope());
    scope_created.push((
        "created_at",
        millis("When the scope was made, in milliseconds since 1970."),
    ));
    scope_deleted.push(("deleted", constant(true, "It is gone.")));
    vec![
        ("Machine", object(machine)),
        ("MachineCreated", object(created)),
        ("NestedMachine", object(machine_members())),
        (
            "MachineList",
            object(vec![
                ("data", array(reference("Machine"), "This page.")),
                ("total_count", total_count()),
            ]),
        ),
        (
            "DeletedMachine",
            object(vec![
                ("object", tag::<MachineTag>("What this is.")),
                ("id", machine_id("The machine's id.")),
                ("deleted", constant(true, "It is gone.")),
            ]),
        ),
        (
            "MachineSecretKey",
            object(vec![
                ("object", tag::<MachineSecretKeyTag>("What this is.")),
                ("secret", matching(MACHINE_KEY, "The machine's key.")),
            ]),
        ),
        ("MachineScope", object(scope_created)),
        ("DeletedMachineScope", object(scope_deleted)),
        (
            "CreateMachine",
            object(vec![
                ("name", name("A name for people.")),
                (
                    "scoped_machines?",
                    array(
                        machine_id("A machine's id."),
                        "The machines that it may call. Repetitions are ignored.",
                    )
                    .with("maxItems", MAX_SCOPES),
                ),
                (
                    "default_token_ttl?",
                    ttl("How many seconds its tokens live where the request names no time.")
                        .with("default", DEFAULT_TOKEN_TTL_SECONDS),
                ),
            ]),
        ),
        (
            "UpdateMachine",
            nullable_object(vec![
                ("name?", name("Its new name.")),
                (
                    "default_token_ttl?",
                    ttl("How many seconds its future tokens live where the request names no time."),
                ),
            ]),
        ),
        (
            "RotateMachineSecretKey",
            object(vec![(
                "previous_token_ttl",
                integer(
                    0,
                    Some(MAX_PREVIOUS_TOKEN_TTL_SECONDS),
                    "For how many seconds the older keys go on working; 0 ends them at once. (The name is Clerk's; tokens are not concerned.)",
                ),
            )]),
        ),
        (
            "CreateMachineScope",
            object(vec![(
                "to_machine_id",
                machine_id("The machine that shall be called."),
            )]),
        ),
    ]
}
