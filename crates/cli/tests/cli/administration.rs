//! The same conversation with an authority in place, through the door of a server, and over HTTP.

use serde_json::{Value, json};

use crate::support::{Outcome, Place, Server};

/// An authority and the flags that lead to it.
struct Way {
    place: Place,
    flags: Vec<String>,
    is_remote: bool,
    _server: Option<Server>,
}

impl Way {
    fn local() -> Self {
        let (place, _) = Place::with_authority();
        let flags = ["--data", "data", "--public-url", "https://auth.example.com"]
            .map(str::to_owned)
            .to_vec();
        Self {
            place,
            flags,
            is_remote: false,
            _server: None,
        }
    }

    /// Through the door of a server that runs.
    fn door() -> Self {
        let (place, _) = Place::with_authority();
        let server = place.start(&["serve", "--data", "data"]);
        Self {
            place,
            flags: ["--data", "data"].map(str::to_owned).to_vec(),
            is_remote: false,
            _server: Some(server),
        }
    }

    fn remote() -> Self {
        let (mut place, key) = Place::with_authority();
        let server = place.start(&["serve", "--data", "data"]);
        place.set("CLERK_SECRET_KEY", &key);
        let flags = vec!["--url".to_owned(), server.url.clone()];
        Self {
            place,
            flags,
            is_remote: true,
            _server: Some(server),
        }
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let arguments: Vec<&str> = arguments
            .iter()
            .copied()
            .chain(self.flags.iter().map(String::as_str))
            .collect();
        self.place.run(&arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        self.run(&arguments).json()
    }

    fn verify(&self, token: &str, arguments: &[&str]) -> Outcome {
        let arguments: Vec<&str> = ["token", "verify"]
            .iter()
            .chain(arguments)
            .copied()
            .chain(self.flags.iter().map(String::as_str))
            .collect();
        self.place.run_with(&arguments, token)
    }
}

/// The hint of a refusal by the authority; empty where its text says it all.
fn hint(way: &Way, arguments: &[&str]) -> String {
    let refusal = way.run(arguments).refusal();
    assert!(refusal.starts_with("13\nerror: "), "{refusal}");
    let hint = refusal.split_once("\nhint: ");
    hint.map(|(_, hint)| hint.to_owned()).unwrap_or_default()
}

fn a_refusal_is_followed_by_what_to_type(way: &Way) {
    way.json(&["machine", "create", "a"]);
    way.json(&["machine", "create", "b", "--calls", "a"]);
    let lifetime = "--ttl sets it: a number with a unit, like 365d, 12h or 30m";
    assert_eq!(hint(way, &["scope", "add", "b", "a"]), "");
    assert_eq!(
        hint(way, &["scope", "add", "a", "a"]),
        "name two machines: a machine's tokens are never for itself"
    );
    assert_eq!(hint(way, &["token", "create", "a", "--ttl", "0"]), lifetime);
    assert_eq!(
        hint(way, &["machine", "update", "a", "--ttl", "0"]),
        lifetime
    );
    assert_eq!(
        hint(
            way,
            &[
                "token",
                "create",
                "a",
                "--ttl",
                "1h",
                "--min-remaining",
                "2h"
            ]
        ),
        "--min-remaining sets it, and --ttl the lifetime of the token"
    );
    assert_eq!(hint(way, &["machine", "update", "a", "--name", ""]), "");

    let keys = way.json(&["key", "list"]);
    let active = text(&keys["data"][0], "kid");
    let delete = ["key", "delete", active, "--yes"];
    assert!(hint(way, &delete).starts_with("`countersign key rotate --now` lets another key sign"));
    way.json(&["key", "rotate"]);
    assert_eq!(
        hint(way, &["key", "rotate"]),
        "`countersign key rotate --now` lets it sign at once"
    );
    // What the hint says works.
    way.json(&["key", "rotate", "--now", "--yes"]);
    assert_eq!(way.json(&delete)["deleted"], true);

    let keys = way.json(&["instance", "key", "list"]);
    let only = text(&keys["data"][0], "id");
    assert_eq!(
        hint(way, &["instance", "key", "revoke", only, "--yes"]),
        "`countersign instance key create` makes another one"
    );
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn machines_and_scopes(way: &Way) {
    let ledger = way.json(&["machine", "create", "ledger"]);
    let billing = way.json(&[
        "machine", "create", "billing", "--calls", "ledger", "--ttl", "12h",
    ]);
    assert_eq!(billing["default_token_ttl"], 43_200);
    assert_eq!(billing["scoped_machines"][0]["id"], ledger["id"]);
    let key = text(&billing, "secret_key");
    assert!(key.starts_with("ak_"));
    assert_eq!(
        way.json(&["machine", "secret", "billing"]),
        json!({"object": "machine_secret_key", "secret": key})
    );
    assert_eq!(
        way.run(&["machine", "secret", text(&billing, "id")]).stdout,
        format!("{key}\n")
    );

    let list = way.json(&["machine", "list", "--order-by", "name"]);
    assert_eq!(
        (list["total_count"].as_i64(), text(&list["data"][0], "name")),
        (Some(2), "billing")
    );
    assert_eq!(
        way.json(&["machine", "list", "--query", "ledg"])["total_count"],
        1
    );
    assert_eq!(
        way.json(&["machine", "list", "--limit", "1", "--offset", "1"])["data"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let shown = way.json(&[
        "machine", "update", "billing", "--name", "invoices", "--ttl", "60s",
    ]);
    assert_eq!(
        (text(&shown, "name"), shown["default_token_ttl"].as_i64()),
        ("invoices", Some(60))
    );
    assert_eq!(way.json(&["machine", "show", "invoices"]), shown);

    let scope = way.json(&["scope", "add", "ledger", "invoices"]);
    assert_eq!(
        (&scope["from_machine_id"], &scope["to_machine_id"]),
        (&ledger["id"], &billing["id"])
    );
    assert_eq!(way.json(&["scope", "list"])["total_count"], 2);
    assert_eq!(
        way.json(&["scope", "remove", "ledger", "invoices"])["deleted"],
        true
    );
    assert_eq!(way.json(&["scope", "list", "ledger"])["total_count"], 1);

    let rotated = way.run(&[
        "machine",
        "rotate",
        "invoices",
        "--previous-ttl",
        "1h",
        "--output",
        "invoices.key",
    ]);
    assert_eq!((rotated.code, rotated.stdout.as_str()), (0, ""));
    let written = std::fs::read_to_string(way.place.path("invoices.key")).expect("written");
    assert_eq!(written, way.run(&["machine", "secret", "invoices"]).stdout);

    assert_eq!(way.run(&["machine", "delete", "invoices"]).code, 2);
    assert_eq!(
        way.json(&["machine", "delete", "invoices", "--yes"])["deleted"],
        true
    );
    assert_eq!(way.run(&["machine", "show", text(&billing, "id")]).code, 13);
    assert_eq!(way.run(&["machine", "show", "invoices"]).code, 13);
}

fn tokens(way: &Way) {
    let receiver = way.json(&["machine", "create", "receiver"]);
    let sender = way.json(&["machine", "create", "sender", "--calls", "receiver"]);
    let issued = way.json(&[
        "token",
        "create",
        "--machine",
        "sender",
        "--ttl",
        "365d",
        "--claims",
        "{\"n\":12345678901234567890123,\"a\":1}",
    ]);
    assert_eq!(issued["subject"], sender["id"]);
    let life = issued["expiration"].as_i64().expect("a time")
        - issued["created_at"].as_i64().expect("a time");
    assert_eq!(life, 365 * 86_400_000);
    let token = text(&issued, "token");

    let plain = way.run(&["token", "create", "--machine", "sender"]);
    assert_eq!(
        plain.stdout.lines().count(),
        1,
        "the token is the only data"
    );
    assert!(plain.stdout.starts_with("mt_"));
    assert!(
        way.run(&["token", "create", "sender"])
            .stdout
            .starts_with("mt_")
    );
    let twice = way.run(&["token", "create", "sender", "--machine", "receiver"]);
    assert_eq!(twice.code, 2, "{}", twice.stderr);
    let by_its_verb = way.run(&["token", "issue", "--machine", "sender", "--ttl", "0"]);
    assert_eq!(by_its_verb.code, 13, "{}", by_its_verb.stderr);

    assert!(
        way.verify(token, &[])
            .stdout
            .contains("\"n\":12345678901234567890123"),
        "claims keep their text"
    );
    assert_eq!(way.verify(token, &["--machine", "receiver"]).code, 0);
    let refused = way.verify(token, &["--machine", "sender"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (16, ""));

    let pooled = [
        "token",
        "create",
        "--machine",
        "sender",
        "--ttl",
        "1h",
        "--min-remaining",
        "30m",
    ];
    assert_eq!(way.json(&pooled)["token"], way.json(&pooled)["token"]);

    let jwt = way.json(&["token", "create", "--machine", "sender", "--format", "jwt"]);
    assert_eq!(
        way.verify(text(&jwt, "token"), &["--json"]).json()["id"],
        jwt["id"]
    );
    assert_eq!(way.json(&["token", "list", "sender"])["total_count"], 5);
    assert_eq!(
        way.json(&["token", "list", "sender", "--format", "jwt"])["total_count"],
        1
    );

    for one in [&issued, &jwt] {
        let revoked = way.json(&[
            "token",
            "revoke",
            text(one, "id"),
            "--reason",
            "left in a log",
            "--yes",
        ]);
        assert_eq!(
            (&revoked["revoked"], text(&revoked, "revocation_reason")),
            (&json!(true), "left in a log")
        );
        assert_eq!(way.verify(text(one, "token"), &[]).code, 16);
    }
    assert_eq!(way.json(&["token", "list", "sender"])["total_count"], 3);
    assert_eq!(
        way.json(&["token", "list", "sender", "--revoked"])["total_count"],
        5
    );
    assert_eq!(
        way.run(&["token", "revoke", token, "--yes"])
            .refusal()
            .lines()
            .next(),
        Some("2")
    );

    assert_eq!(way.json(&["why", "sender", "receiver"])["allowed"], true);
    assert_eq!(way.run(&["why", "receiver", "sender"]).code, 16);
    let newer = way.json(&["machine", "create", "newer"]);
    assert_eq!(
        way.run(&["scope", "add", "sender", text(&newer, "id")])
            .code,
        0
    );
    let why = way.run(&["why", "sender", "newer"]);
    assert!(
        why.stdout.contains("older than the scope"),
        "{}",
        why.stdout
    );
    assert!(receiver["id"].is_string());
}

fn keys_and_instances(way: &Way) {
    let keys = way.json(&["key", "list"]);
    let first = text(&keys["data"][0], "kid").to_owned();
    assert_eq!(way.json(&["key", "rotate"])["state"], "published");
    assert_eq!(way.run(&["key", "rotate"]).code, 13);
    assert_eq!(way.run(&["key", "rotate", "--now"]).code, 2);
    assert_eq!(
        way.json(&["key", "rotate", "--now", "--yes"])["state"],
        "active"
    );
    assert_eq!(
        way.json(&["key", "delete", &first, "--yes"])["deleted"],
        true
    );
    assert_eq!(way.json(&["key", "list"])["total_count"], 1);

    let set = way.json(&[
        "instance",
        "set",
        "max_jwt_ttl=24h",
        "machine_rate_limit=1000/60",
        "jwt_scopes_claim=off",
    ]);
    assert_eq!(set["settings"]["max_jwt_ttl"], 86_400);
    assert_eq!(
        set["settings"]["machine_rate_limit"],
        json!({"requests": 1000, "seconds": 60})
    );
    assert_eq!(set["settings"]["jwt_scopes_claim"], false);
    assert_eq!(way.json(&["instance", "show"]), set);
    let names: Vec<&str> = set["settings"]
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let unknown = way.run(&["instance", "set", "nonsense=1"]).refusal();
    assert!(
        unknown.starts_with("2\n")
            && unknown.contains("no setting 'nonsense'")
            && names.iter().all(|name| unknown.contains(name)),
        "{unknown}"
    );
    let cleared = way.json(&["instance", "set", "machine_rate_limit=none"]);
    assert_eq!(cleared["settings"]["machine_rate_limit"], Value::Null);
    assert_eq!(way.run(&["instance", "set", "secret_reveal=off"]).code, 2);

    let created = way.json(&["instance", "key", "create", "--test"]);
    assert!(text(&created, "secret_key").starts_with("sk_test_"));
    assert_eq!(way.json(&["instance", "key", "list"])["total_count"], 2);
    assert_eq!(
        way.json(&["instance", "key", "revoke", text(&created, "id"), "--yes"])["deleted"],
        true
    );

    let audit = way.json(&["audit", "list"]);
    let kinds: Vec<&str> = audit["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|change| text(change, "kind"))
        .collect();
    assert_eq!(kinds.first(), Some(&"instance.created"));
    assert_eq!(kinds.last(), Some(&"instance_key.revoked"));
    let last = audit["data"].as_array().expect("a list").len();
    assert_eq!(
        way.json(&["audit", "list", "--after", &(last - 1).to_string()])["data"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(
        way.json(&["audit", "verify"]),
        json!({"verified": last, "first_broken": null})
    );
    let list = way.run(&["instance", "list"]);
    assert_eq!(list.code, if way.is_remote { 11 } else { 0 });
}

#[test]
fn a_refusal_is_followed_by_what_to_type_in_place() {
    a_refusal_is_followed_by_what_to_type(&Way::local());
}

#[test]
fn a_refusal_is_followed_by_what_to_type_through_the_door() {
    a_refusal_is_followed_by_what_to_type(&Way::door());
}

#[test]
fn a_refusal_is_followed_by_what_to_type_over_http() {
    a_refusal_is_followed_by_what_to_type(&Way::remote());
}

#[test]
fn machines_and_scopes_in_place() {
    machines_and_scopes(&Way::local());
}

#[test]
fn machines_and_scopes_through_the_door() {
    machines_and_scopes(&Way::door());
}

#[test]
fn machines_and_scopes_over_http() {
    machines_and_scopes(&Way::remote());
}

#[test]
fn tokens_in_place() {
    tokens(&Way::local());
}

#[test]
fn tokens_through_the_door() {
    tokens(&Way::door());
}

#[test]
fn tokens_over_http() {
    tokens(&Way::remote());
}

#[test]
fn keys_and_instances_in_place() {
    keys_and_instances(&Way::local());
}

#[test]
fn keys_and_instances_through_the_door() {
    keys_and_instances(&Way::door());
}

#[test]
fn keys_and_instances_over_http() {
    keys_and_instances(&Way::remote());
}

#[test]
fn a_machine_issues_verifies_and_lists_with_its_own_key() {
    let mut way = Way::remote();
    let machine = way.json(&["machine", "create", "self"]);
    way.place
        .set("CLERK_MACHINE_SECRET_KEY", text(&machine, "secret_key"));
    way.place.set("CLERK_SECRET_KEY", "");
    let issued = way.json(&["token", "create"]);
    assert_eq!(issued["subject"], machine["id"]);
    assert_eq!(
        way.json(&["token", "list"])["m2m_tokens"][0]["id"],
        issued["id"]
    );
    // A machine's token is not for itself.
    assert_eq!(way.verify(text(&issued, "token"), &[]).code, 16);
    assert_eq!(way.run(&["machine", "list"]).code, 11);
}

#[test]
fn both_variables_of_the_address_work_with_and_without_v1() {
    let mut way = Way::remote();
    let url = way.flags.pop().expect("an address");
    way.flags.clear();
    for (name, value) in [
        ("CLERK_API_URL", url.clone()),
        ("CLERK_API_BASE_URL", format!("{url}/v1")),
        ("CLERK_API_BASE_URL", format!("{url}/v1/")),
    ] {
        way.place.set("CLERK_API_URL", "");
        way.place.set(name, &value);
        assert_eq!(
            way.json(&["machine", "list"])["total_count"],
            0,
            "{name}={value}"
        );
    }
}

#[test]
fn several_instances_are_told_apart() {
    let way = Way::local();
    let made = way.json(&["instance", "create", "staging", "--test"]);
    assert!(text(&made, "secret_key").starts_with("sk_test_"));
    assert_eq!(way.json(&["instance", "list"])["total_count"], 2);
    assert_eq!(way.run(&["machine", "list"]).code, 11);
    assert_eq!(
        way.json(&["machine", "create", "there", "--instance", "staging"])["instance_id"],
        made["instance_id"]
    );
    assert_eq!(
        way.json(&["machine", "list", "--instance", "default"])["total_count"],
        0
    );
    assert_eq!(
        way.run(&["machine", "list", "--instance", "nowhere"]).code,
        11
    );
}

#[test]
fn a_machine_whose_name_is_not_unique_is_not_guessed() {
    let way = Way::local();
    way.json(&["machine", "create", "twin"]);
    way.json(&["machine", "create", "twin"]);
    let refusal = way.run(&["machine", "show", "twin"]).refusal();
    assert!(
        refusal.starts_with(
            "13\nerror: 2 machines are named 'twin'\nhint: give the id of one of them: mch_"
        ),
        "{refusal}"
    );
}

#[test]
fn tables_are_plain_text_without_a_terminal() {
    let way = Way::local();
    assert_eq!(way.run(&["machine", "list"]).stdout, "");
    way.json(&["machine", "create", "a\u{1b}[2Jb"]);
    let list = way.run(&["machine", "list"]);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert!(
        lines[0].starts_with("ID ") && lines[0].contains("  NAME"),
        "{}",
        list.stdout
    );
    assert!(
        lines[1].contains("a\\u{1b}[2Jb") && !list.stdout.contains('\u{1b}'),
        "{}",
        list.stdout
    );
}
