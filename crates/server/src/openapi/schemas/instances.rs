//! Who am I, the instance, its settings and keys, and the change log.

use countersign_protocol::change::ChangeKind;
use countersign_protocol::limits::{MAX_ISSUER_LENGTH, MAX_TOKEN_TTL_SECONDS};

use super::*;

const ISSUER: &str = "^https?://[!-~]*[!-.0-~]$";

fn settings(is_answer: bool) -> Node {
    let limit = |description: &'static str| {
        closed(
            nullable("object"),
            vec![
                (
                    "requests",
                    integer(1, Some(i64::from(u32::MAX)), "How many requests."),
                ),
                ("seconds", integer(1, Some(86_400), "In how many seconds.")),
            ],
        )
        .with("description", description)
    };
    let members = [
        ("jwt_scopes_claim", boolean("Whether JWTs carry `scopes`, the machines that they are for.")),
        ("null_expiration", one_of(["default", "never"], "What a request without an expiration means for an opaque token: the machine's `default_token_ttl`, or no end.")),
        ("max_jwt_ttl", integer(1, Some(MAX_TOKEN_TTL_SECONDS), "The longest life of a JWT, in seconds.")),
        ("secret_reveal", boolean("Whether machine keys are kept, sealed, so that they can be shown again.")),
        ("token_pooling", boolean("Whether `min_remaining_ttl_seconds` hands out a live token again.")),
        ("issuer", nullable("string").with("pattern", ISSUER).with("maxLength", MAX_ISSUER_LENGTH).with("description", "The `iss` of JWTs: a URL without a slash at its end. Null: the public URL of this authority.")),
        ("rate_limit", limit("A limit on all requests of the instance; null for none.")),
        ("machine_rate_limit", limit("A limit on the requests with each machine key; null for none.")),
    ];
    let schema = object(members.to_vec());
    if is_answer {
        return schema;
    }
    // Only what changes is sent.
    let Node::Object(members) = schema else {
        return schema;
    };
    Node::Object(
        members
            .into_iter()
            .filter(|(name, _)| name != "required")
            .collect(),
    )
}

pub(super) fn schemas() -> Vec<(&'static str, Node)> {
    let whoami = |kind: &'static str, rest: Vec<(&'static str, Node)>| {
        let mut members = vec![
            ("object", constant("whoami", "What this is.")),
            ("kind", constant(kind, "What was presented.")),
        ];
        members.extend(rest);
        object(members)
    };
    let instance_id = || {
        (
            "instance_id",
            matching(INSTANCE_ID, "The instance that the key belongs to."),
        )
    };
    let key_id = |description| matching(INSTANCE_KEY_ID, description);
    let change = object(vec![
        ("object", constant("change", "What this is.")),
        (
            "sequence",
            integer(
                1,
                None,
                "Its place in the log of this instance, without gaps.",
            ),
        ),
        (
            "at",
            millis("When it happened, in milliseconds since 1970."),
        ),
        (
            "actor",
            text("Who did it: the id of an instance key or machine, or `operator`."),
        ),
        (
            "kind",
            one_of(
                ChangeKind::ALL
                    .iter()
                    // It stands in the log of the whole authority, which nobody can read here.
                    .filter(|kind| **kind != ChangeKind::AuthorityInitialized)
                    .map(|kind| kind.as_str())
                    .collect::<Vec<_>>(),
                "What happened.",
            ),
        ),
        ("subject", text("To what: an id.")),
        (
            "detail",
            typed("object").with("description", "The ids and values that a reader needs in order to act. Its members depend on `kind`. Never a secret."),
        ),
    ]);
    vec![
        ("WhoAmI", Node::object().with("oneOf", [reference("WhoAmIInstance"), reference("WhoAmIMachine"), reference("WhoAmIToken")])),
        ("WhoAmIInstance", whoami("instance", vec![
            instance_id(),
            ("key_id", key_id("The key's id, as the change log names it.")),
            ("name", name("The instance's name.")),
        ])),
        ("WhoAmIMachine", whoami("machine", vec![
            instance_id(),
            ("machine_id", machine_id("The machine's id.")),
            ("name", name("The machine's name.")),
            ("may_call", array(machine_id("A machine's id."), "The machines that it may call.")),
        ])),
        ("WhoAmIToken", whoami("token", vec![
            ("machine_id", machine_id("The machine that the token speaks for.")),
            ("token", reference("M2MToken")),
        ])),
        ("Instance", object(vec![
            ("object", constant("instance", "What this is.")),
            ("id", matching(INSTANCE_ID, "The instance's id.")),
            ("name", name("The instance's name.")),
            ("created_at", millis("When it was made, in milliseconds since 1970.")),
            ("issuer", text("The `iss` of its JWTs.")),
            ("settings", reference("InstanceSettings")),
        ])),
        ("InstanceSettings", settings(true)),
        ("UpdateInstance", object(vec![("settings", settings(false).with("description", "The settings that change; the others stay."))])),
        ("InstanceKey", object(vec![
            ("id", key_id("The key's id.")),
            ("created_at", millis("When it was made, in milliseconds since 1970.")),
            ("revoked_at", nullable_millis("When it was revoked; null while it works.")),
        ])),
        ("InstanceKeyList", object(vec![
            ("data", array(reference("InstanceKey"), "The keys, oldest first.")),
            ("total_count", total_count()),
        ])),
        ("InstanceKeyCreated", object(vec![
            ("object", constant("instance_key", "What this is.")),
            ("id", key_id("The key's id.")),
            ("created_at", millis("When it was made, in milliseconds since 1970.")),
            ("secret_key", matching("^sk_(live|test)_[0-9A-Za-z]{48}$", "The key. It is shown this once.")),
        ])),
        ("DeletedInstanceKey", object(vec![
            ("object", constant("instance_key", "What this is.")),
            ("id", key_id("The key's id.")),
            ("deleted", constant(true, "It works no longer.")),
        ])),
        ("CreateInstanceKey", nullable_object(vec![("live?", boolean("Whether the key begins with `sk_live_` instead of `sk_test_`. Both work alike.").with("default", true))])),
        ("Change", change),
        ("ChangeList", object(vec![("data", array(reference("Change"), "The entries, oldest first; at most 1000."))])),
    ]
}
