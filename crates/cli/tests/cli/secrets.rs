//! Secrets are shown by the commands whose purpose it is, and nowhere else.

use std::os::unix::fs::PermissionsExt;

use crate::support::Place;

#[test]
fn a_secret_goes_to_a_private_file_instead_of_the_terminal() {
    let (place, _) = Place::with_authority();
    let made = place.run(&[
        "machine", "create", "m", "--data", "data", "--output", "m.key",
    ]);
    let key = std::fs::read_to_string(place.path("m.key")).expect("a file");
    assert!(key.starts_with("ak_") && key.ends_with('\n'));
    assert!(!made.stdout.contains("ak_") && !made.stderr.contains("ak_"));
    let mode = std::fs::metadata(place.path("m.key"))
        .expect("a file")
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600);
    let token = place.run(&[
        "token",
        "create",
        "--machine",
        "m",
        "--data",
        "data",
        "--output",
        "m.token",
        "--json",
    ]);
    assert!(token.json().get("token").is_none());
    let made = place.run(&[
        "instance", "key", "create", "--data", "data", "--output", "i.key",
    ]);
    assert_eq!(made.code, 0);
    assert!(!made.stderr.contains("shown this once"), "{}", made.stderr);
    assert!(
        std::fs::read_to_string(place.path("m.token"))
            .expect("a file")
            .starts_with("mt_")
    );
}

#[test]
fn a_place_that_cannot_be_written_is_noticed_before_anything_is_made() {
    let (place, _) = Place::with_authority();
    let refused = place.run(&[
        "machine",
        "create",
        "m",
        "--data",
        "data",
        "--output",
        "nowhere/m.key",
    ]);
    assert_eq!(
        refused.refusal(),
        "9\nerror: cannot write nowhere/m.key: the folder nowhere is missing\n\
         hint: --output names a file in a folder that you may write to"
    );
    assert_eq!(
        place
            .run(&["machine", "list", "--data", "data", "--json"])
            .json()["total_count"],
        0
    );
}

#[test]
fn a_file_that_exists_is_never_written_over() {
    let (place, _) = Place::with_authority();
    let made = ["machine", "create", "m", "--data", "data"];
    assert_eq!(place.run(&made).code, 0);
    let changes = |place: &Place| {
        place
            .run(&["audit", "list", "--data", "data", "--json"])
            .json()
    };
    let before = changes(&place);
    std::fs::write(place.path("kept"), "a key of something else").expect("written");
    std::os::unix::fs::symlink("nowhere", place.path("link")).expect("linked");
    for command in [
        vec!["init", "--data", "other"],
        vec!["instance", "create", "staging", "--data", "data"],
        vec!["instance", "key", "create", "--data", "data"],
        vec!["machine", "create", "n", "--data", "data"],
        vec!["machine", "secret", "m", "--data", "data"],
        vec![
            "machine",
            "rotate",
            "m",
            "--previous-ttl",
            "1h",
            "--data",
            "data",
        ],
        vec!["token", "create", "--machine", "m", "--data", "data"],
    ] {
        for (output, json) in [("kept", None), ("link", None), ("kept", Some("--json"))] {
            let mut arguments = command.clone();
            arguments.extend(["--output", output]);
            arguments.extend(json);
            let refusal = place.run(&arguments).refusal();
            assert_eq!(
                refusal,
                format!(
                    "1\nerror: {output} exists already, and it may hold a secret\n\
                     hint: name another file with --output, or remove this one first"
                ),
                "{arguments:?}"
            );
        }
    }
    assert_eq!(
        changes(&place),
        before,
        "nothing was made and nothing shown"
    );
    assert!(!place.path("other").exists() && !place.path("nowhere").exists());
    assert_eq!(
        std::fs::read_to_string(place.path("kept")).expect("a file"),
        "a key of something else"
    );
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let place = Place::new();
    let token = format!("mt_{}", "A1b2C3d4".repeat(6));
    for arguments in [
        vec!["token", "verify", token.as_str()],
        vec!["token", "revoke", &token, "--url", "http://127.0.0.1:9"],
        vec!["machine", "list", "--url", &token],
        vec!["instance", "key", "revoke", "sk_live_0123456789abcdef0123"],
        vec!["serve", "--public-url", "ak_0123456789abcdef0123456789"],
    ] {
        let refusal = place.run(&arguments).refusal();
        assert!(
            !refusal.contains("A1b2C3d4") && !refusal.contains("0123456789abcdef"),
            "{refusal}"
        );
    }
}

#[test]
fn keys_are_in_neither_arguments_nor_help_nor_logs() {
    let (mut place, key) = Place::with_authority();
    place.set("CLERK_SECRET_KEY", &key);
    place.set(
        "COUNTERSIGN_MASTER_KEY",
        std::fs::read_to_string(place.path("data/master.key"))
            .expect("a file")
            .trim(),
    );
    let master = place.environment.last().expect("set").1.clone();
    let server = place.start(&["serve", "--data", "data", "--log", "trace"]);
    let made = place
        .run(&["machine", "create", "m", "--json", "--url", &server.url])
        .json();
    let machine_key = made["secret_key"].as_str().expect("a key").to_owned();
    let token = place
        .run(&["token", "create", "--machine", "m", "--url", &server.url])
        .stdout;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.pid())).expect("readable");
    let help = ["serve", "machine", "token", "instance"]
        .map(|command| place.run(&[command, "--help"]).stdout)
        .concat();
    let log = server.stop();
    let said = [
        String::from_utf8_lossy(&arguments).into_owned(),
        help,
        log.stdout,
        log.stderr,
    ]
    .concat();
    for secret in [key.as_str(), &machine_key, token.trim(), &master] {
        assert!(!said.contains(secret), "a secret was said");
    }
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let place = Place::new();
    std::fs::write(place.path("key"), "sk_test_0123456789abcdef").expect("written");
    std::fs::set_permissions(place.path("key"), PermissionsExt::from_mode(0o644)).expect("set");
    let refusal = place
        .run(&[
            "machine",
            "list",
            "--url",
            "https://a.example",
            "--secret-key-file",
            "key",
        ])
        .refusal();
    assert!(refusal.starts_with("9\n"), "{refusal}");
    // The address and the key come from one source: a file cannot send the environment's key elsewhere.
    let mut place = place;
    place.set("CLERK_SECRET_KEY", "sk_test_0123456789abcdef");
    std::fs::write(place.path("env"), "CLERK_API_URL=https://a.example\n").expect("written");
    std::fs::set_permissions(place.path("env"), PermissionsExt::from_mode(0o600)).expect("set");
    let refusal = place
        .run(&["machine", "list", "--env-file", "env"])
        .refusal();
    assert!(
        refusal.starts_with("11\nerror: this needs the instance key"),
        "{refusal}"
    );
}
