//! The shapes of bodies and parameters. Bounds come from `countersign_protocol::limits`, names from the types of
//! `countersign_protocol::body`; a test holds every example against them.

use countersign_authority::ChangeKind;
use countersign_protocol::body::{M2mTokenTag, MachineScopeTag, MachineSecretKeyTag, MachineTag};
use countersign_protocol::claims::RESERVED_CLAIMS;
use countersign_protocol::limits::{
    DEFAULT_TOKEN_TTL_SECONDS, MAX_CLAIMS_BYTES, MAX_ISSUER_LENGTH, MAX_JSON_DEPTH, MAX_NAME_LENGTH,
    MAX_PREVIOUS_TOKEN_TTL_SECONDS, MAX_REASON_LENGTH, MAX_SCOPES, MAX_TOKEN_TTL_SECONDS,
};

use super::node::Node;

pub(super) const MACHINE_ID: &str = "^mch_[0-9A-Za-z_]{27}$";
pub(super) const INSTANCE_ID: &str = "^ins_[0-9A-Za-z_]{27}$";
/// What a path may hold: the contract takes upper-case digits as well, and finds nothing under them.
pub(super) const TOKEN_ID_IN_PATH: &str = "^mt_[0-9A-Fa-f]{32}$";
pub(super) const INSTANCE_KEY_ID: &str = "^key_[0-9a-f]{12}$";
const TOKEN_ID: &str = "^mt_[0-9a-f]{32}$";
/// Texts that go to people and databases hold no NUL.
const NO_NUL: &str = "^[^\\u0000]*$";
const ISSUER: &str = "^https?://[!-~]*[!-.0-~]$";

/// A schema of one type.
pub(super) fn typed(kind: &'static str) -> Node {
    Node::object().with("type", kind)
}

fn nullable(kind: &'static str) -> Node {
    Node::object().with("type", [kind, "null"])
}

pub(super) fn text(description: impl Into<std::borrow::Cow<'static, str>>) -> Node {
    typed("string").with("description", description.into())
}

pub(super) fn boolean(description: &'static str) -> Node {
    typed("boolean").with("description", description)
}

pub(super) fn matching(pattern: &'static str, description: &'static str) -> Node {
    typed("string").with("pattern", pattern).with("description", description)
}

pub(super) fn one_of(values: impl Into<Node>, description: &'static str) -> Node {
    typed("string").with("enum", values).with("description", description)
}

pub(super) fn integer(least: i64, most: Option<i64>, description: &'static str) -> Node {
    typed("integer").with("format", "int64").with("minimum", least).with_some("maximum", most).with("description", description)
}

/// A point in time. No more than that is promised: clocks may be anywhere.
fn millis(description: &'static str) -> Node {
    typed("integer").with("format", "int64").with("description", description)
}

fn nullable_millis(description: &'static str) -> Node {
    nullable("integer").with("format", "int64").with("description", description)
}

fn constant(value: impl Into<Node>, description: &'static str) -> Node {
    Node::object().with("const", value).with("description", description)
}

pub(super) fn array(items: Node, description: &'static str) -> Node {
    typed("array").with("items", items).with("description", description)
}

pub(super) fn reference(schema: &'static str) -> Node {
    Node::object().with("$ref", format!("#/components/schemas/{schema}"))
}

/// An object of these members and no others. A `?` at the end of a name marks one that may be absent.
pub(super) fn object(members: Vec<(&'static str, Node)>) -> Node {
    closed(typed("object"), members)
}

/// The same where `null` is as good as an object without members.
fn nullable_object(members: Vec<(&'static str, Node)>) -> Node {
    closed(nullable("object"), members)
}

fn closed(schema: Node, members: Vec<(&'static str, Node)>) -> Node {
    let required: Vec<_> = members.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    let mut properties = Node::object();
    for (name, member) in members {
        properties = properties.with(name.trim_end_matches('?'), member);
    }
    let schema = if required.is_empty() { schema } else { schema.with("required", required) };
    schema.with("properties", properties).with("additionalProperties", false)
}

pub(super) fn machine_id(description: &'static str) -> Node {
    matching(MACHINE_ID, description)
}

fn tag<T: serde::Serialize + Default>(description: &'static str) -> Node {
    constant(Node::of(&T::default()), description)
}

fn name(description: &'static str) -> Node {
    text(description).with("minLength", 1_i64).with("maxLength", MAX_NAME_LENGTH).with("pattern", NO_NUL)
}

fn ttl(description: &'static str) -> Node {
    integer(1, Some(MAX_TOKEN_TTL_SECONDS), description)
}

fn total_count() -> Node {
    integer(0, None, "How many there are on all pages together.")
}

fn machine_members() -> Vec<(&'static str, Node)> {
    vec![
        ("object", tag::<MachineTag>("What this is.")),
        ("id", machine_id("The machine's id.")),
        ("name", name("Its name, for people. Several machines may have the same one.")),
        ("instance_id", matching(INSTANCE_ID, "The instance it belongs to.")),
        ("created_at", millis("When it was made, in milliseconds since 1970.")),
        ("updated_at", millis("When its name, token lifetime or scopes last changed, in milliseconds since 1970.")),
        ("default_token_ttl", ttl("How many seconds its tokens live where the request names no time.")),
    ]
}

fn scoped_machines() -> (&'static str, Node) {
    ("scoped_machines", array(reference("NestedMachine"), "The machines that this one may call, oldest scope first."))
}

const MACHINE_KEY: &str = "^ak_[0-9A-Za-z_-]+$";

/// Everything under `components.schemas`, in the order in which people read it.
pub(super) fn components() -> Node {
    [tokens(), machines(), keys(), instances(), neighbours(), errors()].into_iter().flatten().fold(Node::object(), |all, (name, schema)| {
        all.with(name, schema)
    })
}

fn token_members() -> Vec<(&'static str, Node)> {
    vec![
        ("object", tag::<M2mTokenTag>("What this is.")),
        ("id", matching(TOKEN_ID, "The token's id, for revoking it and for logs. It never works as a token.")),
        ("subject", machine_id("The machine that the token speaks for.")),
        ("scopes", array(machine_id("A machine's id."), "The machines that the token is for, as they were when it was made.")),
        ("claims", Node::object().with("description", "What the machine put into the token: any JSON value, or null.")),
        ("revoked", boolean("Whether it was revoked.")),
        ("revocation_reason", nullable("string").with("maxLength", MAX_REASON_LENGTH).with("description", "The reason that the first revocation gave.")),
        ("expired", boolean("Whether its time is over.")),
        ("expiration", nullable_millis("When its time is over, in milliseconds since 1970; null for never.")),
        ("last_used_at", nullable_millis("When it last verified, at most a few seconds late; null for never and for a JWT that is being verified.")),
        ("created_at", millis("When it was made, in milliseconds since 1970.")),
        ("updated_at", millis("When it was made, last verified or revoked, whichever is latest.")),
    ]
}

fn lifetime(description: &'static str) -> Node {
    nullable("number").with("exclusiveMinimum", 0_i64).with("maximum", MAX_TOKEN_TTL_SECONDS).with("description", description)
}

fn claims() -> Node {
    let description = format!(
        "Any JSON value, answered by verification as it came: at most {MAX_CLAIMS_BYTES} bytes and {MAX_JSON_DEPTH} levels, with no \
         member twice. For a JWT an object, whose members become claims of the JWT, or null."
    );
    Node::object().with("description", description)
}

fn revocation_reason() -> Node {
    nullable("string")
        .with("maxLength", MAX_REASON_LENGTH)
        .with("pattern", NO_NUL)
        .with("description", "Why, for the change log and whoever looks the token up. The first reason stays.")
}

fn tokens() -> Vec<(&'static str, Node)> {
    let mut created = token_members();
    created.push(("token", text("The token itself, which the machine sends as `Authorization: Bearer …`: `mt_` and 43 characters, or a JWT.")));
    let mut reserved: Vec<&'static str> = RESERVED_CLAIMS.to_vec();
    reserved.sort_unstable();
    let jwt_claims = nullable("object").with("propertyNames", Node::object().with("not", Node::object().with("enum", reserved)));
    let is_jwt = Node::object()
        .with("required", ["token_format"])
        .with("properties", Node::object().with("token_format", constant("jwt", "A JWT.")));
    let create = object(vec![
        ("token_format?", one_of(["opaque", "jwt"], "`opaque`: a short string that receivers verify here. `jwt`: one that they can also check by themselves.").with("default", "opaque")),
        ("seconds_until_expiration?", lifetime("How long the token lives; fractions are allowed. Null or absent: the machine's `default_token_ttl`.")),
        ("claims?", claims()),
        ("min_remaining_ttl_seconds?", integer(0, None, "Asks for a live token of this machine with equal claims and scopes that still has at least so many seconds, and for a new one only where there is none. Less than the lifetime. Ignored for JWTs, which are always new.")),
    ])
    .with("if", is_jwt)
    .with("then", Node::object().with("properties", Node::object().with("claims", jwt_claims)));
    let reason_needs_revoked = [
        Node::object().with("required", ["revoked"]),
        Node::object().with("properties", Node::object().with("revocation_reason", typed("null"))),
    ];
    vec![
        ("M2MToken", object(token_members())),
        ("M2MTokenCreated", object(created)),
        ("M2MTokenList", object(vec![
            ("m2m_tokens", array(reference("M2MToken"), "This page, newest first.")),
            ("total_count", total_count()),
        ])),
        ("CreateM2MToken", create),
        ("VerifyM2MToken", object(vec![
            ("token?", text("The token that a caller presented: opaque or JWT.")),
            ("secret?", text("The same, as older SDKs send it. Where both are given, `token` wins.")),
        ])
        .with("anyOf", [Node::object().with("required", ["token"]), Node::object().with("required", ["secret"])])),
        ("RevokeM2MToken", nullable_object(vec![("revocation_reason?", revocation_reason())])),
        ("UpdateM2MToken", nullable_object(vec![
            ("claims?", claims()),
            ("seconds_until_expiration?", lifetime("The new rest of its life, counted from now. Null: the machine's `default_token_ttl`.")),
            ("revoked?", Node::object().with("const", true).with("description", "Revokes the token in the same step. A revoked token stays revoked.")),
            ("revocation_reason?", revocation_reason()),
        ])
        .with("anyOf", reason_needs_revoked)),
    ]
}

fn machines() -> Vec<(&'static str, Node)> {
    let mut machine = machine_members();
    machine.push(scoped_machines());
    let mut created = machine.clone();
    created.push(("secret_key", matching(MACHINE_KEY, "The machine's key. Hand it to the machine, and to nobody else.")));
    let scope = || vec![
        ("object", tag::<MachineScopeTag>("What this is.")),
        ("from_machine_id", machine_id("The machine that calls.")),
        ("to_machine_id", machine_id("The machine that is called.")),
    ];
    let (mut scope_created, mut scope_deleted) = (scope(), scope());
    scope_created.push(("created_at", millis("When the scope was made, in milliseconds since 1970.")));
    scope_deleted.push(("deleted", constant(true, "It is gone.")));
    vec![
        ("Machine", object(machine)),
        ("MachineCreated", object(created)),
        ("NestedMachine", object(machine_members())),
        ("MachineList", object(vec![
            ("data", array(reference("Machine"), "This page.")),
            ("total_count", total_count()),
        ])),
        ("DeletedMachine", object(vec![
            ("object", tag::<MachineTag>("What this is.")),
            ("id", machine_id("The machine's id.")),
            ("deleted", constant(true, "It is gone.")),
        ])),
        ("MachineSecretKey", object(vec![
            ("object", tag::<MachineSecretKeyTag>("What this is.")),
            ("secret", matching(MACHINE_KEY, "The machine's key.")),
        ])),
        ("MachineScope", object(scope_created)),
        ("DeletedMachineScope", object(scope_deleted)),
        ("CreateMachine", object(vec![
            ("name", name("A name for people.")),
            ("scoped_machines?", array(machine_id("A machine's id."), "The machines that it may call. Repetitions are ignored.").with("maxItems", MAX_SCOPES)),
            ("default_token_ttl?", ttl("How many seconds its tokens live where the request names no time.").with("default", DEFAULT_TOKEN_TTL_SECONDS)),
        ])),
        ("UpdateMachine", nullable_object(vec![
            ("name?", name("Its new name.")),
            ("default_token_ttl?", ttl("How many seconds its future tokens live where the request names no time.")),
        ])),
        ("RotateMachineSecretKey", object(vec![(
            "previous_token_ttl",
            integer(0, Some(MAX_PREVIOUS_TOKEN_TTL_SECONDS), "For how many seconds the older keys go on working; 0 ends them at once. (The name is Clerk's; tokens are not concerned.)"),
        )])),
        ("CreateMachineScope", object(vec![("to_machine_id", machine_id("The machine that shall be called."))])),
    ]
}

fn keys() -> Vec<(&'static str, Node)> {
    let signing_key = object(vec![
        ("kid", matching(INSTANCE_ID, "The key's id, in the head of each JWT that it signed.")),
        ("state", one_of(["published", "active", "verify_only"], "`published`: shown in the JWKS, not used yet. `active`: signs. `verify_only`: its JWTs are still accepted.")),
        ("published_at", millis("When it was published, in milliseconds since 1970.")),
        ("active_at", nullable_millis("When it began to sign, or will.")),
        ("retired_at", nullable_millis("When it ceased to sign.")),
        ("last_expires_at", nullable_millis("When the last JWT that it signed is over.")),
    ]);
    let jwk = object(vec![
        ("use", constant("sig", "For signatures.")),
        ("kty", constant("RSA", "The kind of key.")),
        ("kid", matching(INSTANCE_ID, "The key's id.")),
        ("alg", constant("RS256", "The algorithm.")),
        ("n", matching("^[0-9A-Za-z_-]+$", "The modulus, base64url.")),
        ("e", constant("AQAB", "The exponent 65537, base64url.")),
    ]);
    vec![
        ("Jwks", object(vec![("keys", array(jwk, "The public keys: the next, the active one, and those whose JWTs still live.").with("minItems", 1_i64))])),
        ("OpenidConfiguration", object(vec![
            ("issuer", text("The `iss` of every JWT.")),
            ("jwks_uri", text("Where the public keys are.")),
            ("id_token_signing_alg_values_supported", array(constant("RS256", "The only one."), "How JWTs are signed.")),
            ("response_types_supported", array(constant("none", "Machines do not sign in."), "Required by the standard.")),
            ("subject_types_supported", array(constant("public", "Machine ids are the same for everybody."), "Required by the standard.")),
        ])),
        ("SigningKey", signing_key),
        ("SigningKeyList", object(vec![
            ("data", array(reference("SigningKey"), "The keys, oldest first.")),
            ("total_count", total_count()),
        ])),
        ("DeletedSigningKey", object(vec![
            ("kid", matching(INSTANCE_ID, "The key's id.")),
            ("deleted", constant(true, "It is gone.")),
        ])),
        ("RotateSigningKey", nullable_object(vec![(
            "immediate?",
            boolean("Whether the new key signs at once. Without it, it signs after an hour, when every receiver's cache knows it.").with("default", false),
        )])),
    ]
}

fn settings(is_answer: bool) -> Node {
    let limit = |description: &'static str| {
        closed(nullable("object"), vec![
            ("requests", integer(1, Some(i64::from(u32::MAX)), "How many requests.")),
            ("seconds", integer(1, Some(86_400), "In how many seconds.")),
        ])
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
    let Node::Object(members) = schema else { return schema };
    Node::Object(members.into_iter().filter(|(name, _)| name != "required").collect())
}

fn instances() -> Vec<(&'static str, Node)> {
    let whoami = |kind: &'static str, rest: Vec<(&'static str, Node)>| {
        let mut members = vec![
            ("object", constant("whoami", "What this is.")),
            ("kind", constant(kind, "What was presented.")),
        ];
        members.extend(rest);
        object(members)
    };
    let instance_id = || ("instance_id", matching(INSTANCE_ID, "The instance that the key belongs to."));
    let key_id = |description| matching(INSTANCE_KEY_ID, description);
    let change = object(vec![
        ("object", constant("change", "What this is.")),
        ("sequence", integer(1, None, "Its place in the log of this instance, without gaps.")),
        ("at", millis("When it happened, in milliseconds since 1970.")),
        ("actor", text("Who did it: the id of an instance key or machine, or `operator`.")),
        ("kind", one_of(ChangeKind::ALL.iter().map(|(_, name)| *name).collect::<Vec<_>>(), "What happened.")),
        ("subject", text("To what: an id.")),
        ("detail", typed("object").with("description", "What changed. Never a secret.")),
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

/// What is asked about kinds of token that are not here. Nothing is read of it.
fn neighbours() -> Vec<(&'static str, Node)> {
    vec![
        ("NeighbourSecret", typed("object").with("properties", Node::object().with("secret", text("An API key.")))),
        ("NeighbourAccessToken", typed("object").with("properties", Node::object().with("access_token", text("An OAuth token.")))),
    ]
}

fn errors() -> Vec<(&'static str, Node)> {
    let meta = object(vec![
        ("param_name?", text("The parameter at fault.")),
        ("reason?", one_of(["unknown", "revoked", "expired", "not_in_scope"], "Why a token does not verify, for those who may know.")),
    ]);
    let error = object(vec![
        ("message", text("A short text.")),
        ("long_message", text("What is wrong and what would be right.")),
        ("code", matching("^[a-z0-9_]+$", "The code, for programs.")),
        ("meta?", meta),
    ]);
    vec![
        ("Errors", object(vec![
            ("errors", array(reference("Error"), "What went wrong.").with("minItems", 1_i64)),
            ("clerk_trace_id", matching("^[0-9a-f]{32}$", "The id under which the log has this request; also in the header `Clerk-Trace-Id`.")),
        ])),
        ("Error", error),
    ]
}
