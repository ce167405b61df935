//! Examples of answers, written by the types that write the answers themselves.

use std::sync::Arc;

use countersign_authority::{InstanceKeyInfo, SigningKeyInfo};
use countersign_protocol::body::{
    Change, ChangeTag, DeletedMachine, ExposedSecret, Jwk, Jwks, M2mToken, M2mTokenList,
    M2mTokenTag, Machine, MachineList, MachineScope, MachineScopeTag, MachineSecretKey,
    MachineSecretKeyTag, MachineTag, NestedMachine,
};
use countersign_protocol::change::{Event, TokenFacts};
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{InstanceId, MachineId, SigningKeyId};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;
use countersign_protocol::token::TokenFormat;

use super::node::Node;

pub(super) const BILLING: &str = "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk";
pub(super) const LEDGER: &str = "mch_2yGkLpQ7Y3rXSwtU24CzTk9I7Em";
pub(super) const INSTANCE: &str = "ins_2GIoQhbUpy0hX7B2cVkuTMinXoD";
pub(super) const KID: &str = "ins_36sCAr6gS5M5C4x9CxLYQXDhIF1";
pub(super) const TOKEN_ID: &str = "mt_07f0ba8c3b4843ce7d85fcdd5e71853e";
pub(super) const TOKEN: &str = "mt_EXAMPLE0TOKEN0EXAMPLE0TOKEN0EXAMPLE0TOKEN0E";
pub(super) const KEY_ID: &str = "key_5f1c0a9be274";
const MACHINE_KEY: &str = "ak_EXAMPLE0KEY0EXAMPLE0KEY0EXAMPLE0KEY0EXAMPLE0KEY0";
const INSTANCE_KEY: &str = "sk_live_EXAMPLE0KEY0EXAMPLE0KEY0EXAMPLE0KEY0EXAMPLE0KEY0";
const MODULUS: &str = "wB1oxLQ3TTxUAW4rxE7mIrb5nC0ZHcDdcnT9mYfDqYhdfUeQnUnhrn3I5Ft6kvXcVjYvOY_kLr0iCnCRvRzUQpXsX8cMjQ";

const JANUARY_2026: i64 = 1_767_225_600_000;
const HOUR: i64 = 3_600_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(JANUARY_2026 + millis)
}

fn machine_id(text: &str) -> MachineId {
    text.parse().expect("the example is an id")
}

fn instance_id() -> InstanceId {
    INSTANCE.parse().expect("the example is an id")
}

fn kid(text: &str) -> SigningKeyId {
    text.parse().expect("the example is an id")
}

fn nested(id: &str, name: &str, age: i64) -> NestedMachine {
    NestedMachine {
        object: MachineTag::Tag,
        id: machine_id(id),
        name: name.to_owned(),
        instance_id: instance_id(),
        created_at: at(-age),
        updated_at: at(-age),
        default_token_ttl: 3600,
    }
}

fn billing(secret_key: Option<&str>, name: &str, scoped_machines: Vec<NestedMachine>) -> Machine {
    Machine {
        object: MachineTag::Tag,
        id: machine_id(BILLING),
        name: name.to_owned(),
        instance_id: instance_id(),
        created_at: at(0),
        updated_at: at(0),
        default_token_ttl: 3600,
        scoped_machines,
        secret_key: secret_key.map(|key| ExposedSecret(key.to_owned())),
    }
}

pub(super) fn machine() -> Node {
    Node::of(&billing(
        None,
        "billing",
        vec![nested(LEDGER, "ledger", 100_000)],
    ))
}

pub(super) fn machine_created() -> Node {
    Node::of(&billing(
        Some(MACHINE_KEY),
        "billing",
        vec![nested(LEDGER, "ledger", 100_000)],
    ))
}

pub(super) fn machine_updated() -> Node {
    let machine = billing(
        None,
        "billing (EU)",
        vec![nested(LEDGER, "ledger", 100_000)],
    );
    Node::of(&Machine {
        updated_at: at(HOUR),
        default_token_ttl: 900,
        ..machine
    })
}

pub(super) fn machine_list() -> Node {
    let NestedMachine {
        object,
        id,
        name,
        instance_id,
        created_at,
        updated_at,
        default_token_ttl,
    } = nested(LEDGER, "ledger", 100_000);
    let ledger = Machine {
        object,
        id,
        name,
        instance_id,
        created_at,
        updated_at,
        default_token_ttl,
        scoped_machines: Vec::new(),
        secret_key: None,
    };
    let data = vec![
        billing(None, "billing", vec![nested(LEDGER, "ledger", 100_000)]),
        ledger,
    ];
    Node::of(&MachineList {
        data,
        total_count: 2,
    })
}

pub(super) fn machine_deleted() -> Node {
    Node::of(&DeletedMachine {
        object: MachineTag::Tag,
        id: machine_id(BILLING),
        deleted: true,
    })
}

pub(super) fn machine_secret_key() -> Node {
    Node::of(&MachineSecretKey {
        object: MachineSecretKeyTag::Tag,
        secret: ExposedSecret(MACHINE_KEY.to_owned()),
    })
}

pub(super) fn scope(is_deleted: bool) -> Node {
    Node::of(&MachineScope {
        object: MachineScopeTag::Tag,
        from_machine_id: machine_id(BILLING),
        to_machine_id: machine_id(LEDGER),
        created_at: (!is_deleted).then(|| at(0)),
        deleted: is_deleted.then_some(true),
    })
}

fn live_token() -> M2mToken {
    M2mToken {
        object: M2mTokenTag::Tag,
        id: TOKEN_ID.parse().expect("the example is an id"),
        subject: machine_id(BILLING),
        scopes: Scopes::parse(LEDGER).expect("the example is an id"),
        claims: None,
        revoked: false,
        revocation_reason: None,
        expired: false,
        expiration: Some(at(HOUR)),
        last_used_at: None,
        created_at: at(0),
        updated_at: at(0),
        token: None,
    }
}

pub(super) fn token_created() -> Node {
    Node::of(&M2mToken {
        token: Some(ExposedSecret(TOKEN.to_owned())),
        ..live_token()
    })
}

pub(super) fn jwt_created() -> Node {
    let claims =
        Claims::from_stored(r#"{"tenant":"acme"}"#.to_owned()).expect("the example is JSON");
    // The real one has some 800 characters; nobody reads them.
    let token = format!(
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Imluc18yR0lvUSJ9.eyJzdWIiOiJtY2hfMnhoRmoifQ.{MODULUS}"
    );
    Node::of(&M2mToken {
        claims,
        token: Some(ExposedSecret(token)),
        ..live_token()
    })
}

pub(super) fn token_verified() -> Node {
    Node::of(&M2mToken {
        last_used_at: Some(at(60_000)),
        updated_at: at(60_000),
        ..live_token()
    })
}

pub(super) fn token_updated() -> Node {
    let claims =
        Claims::from_stored(r#"{"tenant":"acme"}"#.to_owned()).expect("the example is JSON");
    Node::of(&M2mToken {
        claims,
        expiration: Some(at(2 * HOUR)),
        ..live_token()
    })
}

pub(super) fn token_revoked() -> Node {
    let revocation_reason = Some(Arc::from("laptop stolen"));
    Node::of(&M2mToken {
        revoked: true,
        revocation_reason,
        updated_at: at(120_000),
        ..live_token()
    })
}

pub(super) fn token_list() -> Node {
    Node::of(&M2mTokenList {
        m2m_tokens: vec![live_token()],
        total_count: 1,
    })
}

pub(super) fn jwks() -> Node {
    Node::of(&Jwks {
        keys: vec![Jwk {
            key_use: "sig".to_owned(),
            kty: "RSA".to_owned(),
            kid: kid(INSTANCE),
            alg: "RS256".to_owned(),
            n: MODULUS.to_owned(),
            e: "AQAB".to_owned(),
        }],
    })
}

fn active_key() -> SigningKeyInfo {
    SigningKeyInfo {
        kid: kid(INSTANCE),
        state: "active",
        published_at: at(0),
        active_at: Some(at(0)),
        retired_at: None,
        last_expires_at: Some(at(HOUR)),
    }
}

fn next_key() -> SigningKeyInfo {
    SigningKeyInfo {
        kid: kid(KID),
        state: "published",
        published_at: at(24 * HOUR),
        active_at: Some(at(25 * HOUR)),
        retired_at: None,
        last_expires_at: None,
    }
}

pub(super) fn signing_key_rotated() -> Node {
    Node::of(&next_key())
}

pub(super) fn signing_key_list() -> Node {
    Node::object()
        .with("data", [Node::of(&active_key()), Node::of(&next_key())])
        .with("total_count", 2_i64)
}

pub(super) fn signing_key_deleted() -> Node {
    Node::object().with("kid", KID).with("deleted", true)
}

pub(super) fn openid_configuration() -> Node {
    Node::json(
        r#"{"issuer":"https://auth.example.com","jwks_uri":"https://auth.example.com/.well-known/jwks.json",
            "id_token_signing_alg_values_supported":["RS256"],"response_types_supported":["none"],"subject_types_supported":["public"]}"#,
    )
}

pub(super) fn whoami_instance() -> Node {
    whoami("instance")
        .with("instance_id", INSTANCE)
        .with("key_id", KEY_ID)
        .with("name", "production")
}

pub(super) fn whoami_machine() -> Node {
    whoami("machine")
        .with("instance_id", INSTANCE)
        .with("machine_id", BILLING)
        .with("name", "billing")
        .with("may_call", [LEDGER])
}

pub(super) fn whoami_token() -> Node {
    whoami("token")
        .with("machine_id", BILLING)
        .with("token", token_verified())
}

fn whoami(kind: &'static str) -> Node {
    Node::object().with("object", "whoami").with("kind", kind)
}

pub(super) fn instance(settings: &InstanceSettings) -> Node {
    Node::object()
        .with("object", "instance")
        .with("id", INSTANCE)
        .with("name", "production")
        .with("created_at", JANUARY_2026)
        .with("issuer", "https://auth.example.com")
        .with("settings", Node::of(settings))
}

pub(super) fn instance_key_list() -> Node {
    let key = InstanceKeyInfo {
        id: KEY_ID.parse().expect("an id"),
        created_at: at(0),
        revoked_at: None,
    };
    let old = InstanceKeyInfo {
        id: "key_0d9e8c7b6a51".parse().expect("an id"),
        created_at: at(-HOUR),
        revoked_at: Some(at(HOUR)),
    };
    Node::object()
        .with("data", [Node::of(&old), Node::of(&key)])
        .with("total_count", 2_i64)
}

pub(super) fn instance_key_created() -> Node {
    Node::object()
        .with("object", "instance_key")
        .with("id", KEY_ID)
        .with("created_at", JANUARY_2026)
        .with("secret_key", INSTANCE_KEY)
}

pub(super) fn instance_key_deleted() -> Node {
    Node::object()
        .with("object", "instance_key")
        .with("id", KEY_ID)
        .with("deleted", true)
}

pub(super) fn change_list() -> Node {
    let event = Event::TokenRevoked {
        token: TokenFacts {
            token_id: TOKEN_ID.parse().expect("the example is an id"),
            subject: machine_id(BILLING),
            receivers: std::iter::once(machine_id(LEDGER)).collect(),
            names_receivers: true,
            format: TokenFormat::Opaque,
            expires_at: Some(at(HOUR)),
        },
        reason: Some(Arc::from("laptop stolen")),
    };
    let change = Change {
        actor: KEY_ID.to_owned(),
        at: at(0),
        detail: serde_json::from_str(&event.detail()).expect("the detail is JSON"),
        kind: event.kind(),
        object: ChangeTag::Tag,
        sequence: 42,
        subject: event.subject(),
    };
    Node::object().with("data", [Node::of(&change)])
}
