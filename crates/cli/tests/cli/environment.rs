//! Variables of the environment, as people and their tools write them.

use insta::assert_snapshot;

use crate::support::Place;

/// The variables of `serve`.
const VARIABLES: [&str; 17] = [
    "COUNTERSIGN_LISTEN",
    "COUNTERSIGN_DATA",
    "COUNTERSIGN_MASTER_KEY",
    "COUNTERSIGN_MASTER_KEY_FILE",
    "COUNTERSIGN_PUBLIC_URL",
    "COUNTERSIGN_ADMIN_LISTEN",
    "COUNTERSIGN_TLS_CERTIFICATE",
    "COUNTERSIGN_TLS_KEY",
    "COUNTERSIGN_INSECURE_HTTP",
    "COUNTERSIGN_TRUSTED_PROXIES",
    "COUNTERSIGN_THREADS",
    "COUNTERSIGN_TOKEN_INDEX_MIB",
    "COUNTERSIGN_MAX_AUTH_FAILURES",
    "COUNTERSIGN_LOG",
    "COUNTERSIGN_LOG_FORMAT",
    "COUNTERSIGN_CONFIG",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// What a server said on standard error that was started with a variable.
fn log_with(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let (mut place, _) = Place::with_authority();
    for (name, value) in variables {
        place.set(name, value);
    }
    let arguments = [&["serve", "--data", "data"], arguments].concat();
    let outcome = place.start(&arguments).stop();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    outcome.stderr
}

fn refusal_with(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let (mut place, _) = Place::with_authority();
    for (name, value) in variables {
        place.set(name, value);
    }
    place.run(arguments).refusal()
}

#[test]
fn an_empty_variable_is_not_set() {
    for empty in ["", "  "] {
        let log = log_with(&VARIABLES.map(|name| (name, empty)), &[]);
        assert!(log.contains("stopped"), "nothing is logged: {log}");
    }
    let list = refusal_with(
        &[("CLERK_API_URL", ""), ("CLERK_SECRET_KEY", "")],
        &["machine", "list"],
    );
    assert!(
        list.starts_with("11\nerror: no authority was named"),
        "{list}"
    );
}

#[test]
fn a_message_names_the_variable_that_was_used() {
    let serve = ["serve", "--data", "data"];
    assert_snapshot!(refusal_with(&[("COUNTERSIGN_LISTEN", "4840")], &serve), @r#"
    2
    error: invalid value '4840' for COUNTERSIGN_LISTEN: write an IP address and a port, like 127.0.0.1:4840
    hint: --help has an example
    "#);
    assert_snapshot!(refusal_with(&[("COUNTERSIGN_TRUSTED_PROXIES", "10.0.0.1, proxy")], &serve), @r#"
    2
    error: invalid value '10.0.0.1, proxy' for COUNTERSIGN_TRUSTED_PROXIES: 'proxy' is not an IP address or range; separate them with commas, like 10.0.0.1, 10.1.0.0/16
    hint: --help has an example
    "#);
    assert_snapshot!(refusal_with(&[("COUNTERSIGN_INSECURE_HTTP", "maybe")], &serve), @r#"
    2
    error: invalid value 'maybe' for COUNTERSIGN_INSECURE_HTTP: write true or false
    hint: --help has an example
    "#);
    assert_snapshot!(refusal_with(&[("COUNTERSIGN_TLS_KEY", "key.pem")], &serve), @r#"
    2
    error: the following required arguments were not provided: --tls-certificate <FILE>
    hint: write `countersign serve --tls-key <FILE> --tls-certificate <FILE> --data <DIR>`; --help has an example
    "#);
    // What was given as an option is called by its name.
    let given = ["serve", "--data", "data", "--listen", "4840"];
    assert_snapshot!(refusal_with(&[("COUNTERSIGN_LISTEN", "127.0.0.1:1")], &given), @r#"
    2
    error: invalid value '4840' for '--listen <ADDRESS>': write an IP address and a port, like 127.0.0.1:4840
    hint: --help has an example
    "#);
}

#[test]
fn a_variable_that_is_not_unicode_is_not_passed_over() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let place = Place::new();
    let odd = OsStr::from_bytes(b"odd-\xff");
    let made = place
        .command(&["init", "--json"])
        .env("COUNTERSIGN_DATA", odd)
        .status();
    assert!(made.expect("ends").success() && place.path("").join(odd).is_dir());
    let tls = place
        .command(&["dev", "--listen", "127.0.0.1:0"])
        .env("COUNTERSIGN_TLS_CERTIFICATE", odd)
        .env("COUNTERSIGN_TLS_KEY", odd)
        .status();
    assert_eq!(
        tls.expect("ends").code(),
        Some(11),
        "it must not serve without TLS"
    );
}

#[test]
fn booleans_and_lists_are_read_as_people_write_them() {
    for yes in ["1", "true", "yes", "on", "TRUE", "Yes"] {
        log_with(
            &[("COUNTERSIGN_INSECURE_HTTP", yes)],
            &["--admin-listen", "0.0.0.0:0"],
        );
    }
    for no in ["0", "false", "no", "off", "False"] {
        let arguments = ["serve", "--data", "data", "--listen", "0.0.0.0:0"];
        let refusal = refusal_with(&[("COUNTERSIGN_INSECURE_HTTP", no)], &arguments);
        assert!(
            refusal.starts_with("11\nerror: 0.0.0.0:0 is not loopback"),
            "{refusal}"
        );
    }
    for list in [
        "10.0.0.1,10.0.0.2",
        "10.0.0.1, 10.0.0.2",
        " 10.0.0.1 ::1 ",
        "10.0.0.0/8, fd00::/8",
        "10.0.0.1,",
    ] {
        log_with(&[("COUNTERSIGN_TRUSTED_PROXIES", list)], &[]);
    }
    for list in [
        r#""10.0.0.1, 10.0.0.2""#,
        r#"["10.0.0.1", "10.0.0.2"]"#,
        "[]",
    ] {
        let (place, _) = Place::with_authority();
        let text = format!("data = \"data\"\ntrusted_proxies = {list}\n");
        std::fs::write(place.path("c.toml"), text).expect("writable");
        assert_eq!(place.start(&["serve", "--config", "c.toml"]).stop().code, 0);
    }
}

#[test]
fn what_is_unusable_in_shared_variables_costs_the_traces_only() {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let log = log_with(&[(ENDPOINT, "https://otel.example.com:4318")], &[]);
    assert!(
        log.contains("WARN traces cannot be sent to 'https://otel.example.com:4318': it must begin with http://")
            && log.contains("; no traces are sent"),
        "{log}"
    );
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        let log = log_with(
            &[(ENDPOINT, "https://otel.example.com:4318"), (name, value)],
            &[],
        );
        assert!(!log.contains("traces"), "{log}");
    }
    // What is only ours is refused.
    let arguments = [
        "serve",
        "--data",
        "data",
        "--otlp-endpoint",
        "https://otel.example.com",
    ];
    assert_snapshot!(refusal_with(&[], &arguments), @r#"
    11
    error: traces cannot be sent to 'https://otel.example.com': it must begin with http://; put a collector on this machine for anything farther
    hint: write the collector's address for OTLP over HTTP, like http://127.0.0.1:4318
    "#);
}
