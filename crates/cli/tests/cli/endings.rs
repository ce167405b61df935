//! Every situation with an exit code of its own: one error, one hint, no data, nothing changed.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;

use crate::support::{Place, files};

/// The refusal of `serve` on the folder `data`, which must change no file.
fn refused(place: &Place, arguments: &[&str]) -> String {
    let before = place
        .path("data")
        .is_dir()
        .then(|| files(&place.path("data")));
    let arguments: Vec<&str> = ["serve", "--data", "data", "--listen", "127.0.0.1:0"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    let refusal = place.run(&arguments).refusal();
    let after = place
        .path("data")
        .is_dir()
        .then(|| files(&place.path("data")));
    assert!(before == after, "the refused start changed a file");
    refusal
}

#[test]
fn a_command_line_that_cannot_be_understood_ends_with_2() {
    let place = Place::new();
    assert_snapshot!(place.run(&["serve", "--dta", "x"]).refusal(), @r#"
    2
    error: unexpected argument '--dta' found
    hint: a similar argument exists: '--data'
    "#);
    assert_snapshot!(place.run(&["machine", "create"]).refusal(), @r#"
    2
    error: the following required arguments were not provided: <NAME>
    hint: write `countersign machine create <NAME>`; --help has an example
    "#);
    assert_snapshot!(place.run(&["machine", "update", "x", "--ttl", "soon"]).refusal(), @r#"
    2
    error: invalid value 'soon' for '--ttl <DURATION>': write a number with a unit, like 365d, 12h, 30m, 90s or 1h30m
    hint: --help has an example
    "#);
    assert_snapshot!(place.run(&["instance", "set", "--max-jwt-ttl", "1h"]).refusal(), @r#"
    2
    error: unexpected argument '--max-jwt-ttl' found
    hint: write max_jwt_ttl=VALUE, without dashes; it must be a number with a unit, like 24h or 365d
    "#);
    assert_snapshot!(place.run(&["machine", "create", "x", "--token-ttl", "0"]).refusal(), @r#"
    2
    error: unexpected argument '--token-ttl' found
    hint: write `countersign machine create <NAME>`; --help has an example
    "#);
    assert_snapshot!(place.run(&["machine", "list", "--url", "https://a.example", "--data", "x"]).refusal(), @r#"
    2
    error: the argument '--url <URL>' cannot be used with '--data <DIR>'
    hint: write `countersign machine list --url <URL>`; --help has an example
    "#);
}

#[test]
fn a_missing_and_an_empty_folder_end_with_3() {
    let place = Place::new();
    assert_snapshot!(refused(&place, &[]), @r#"
    3
    error: there is no authority in data
    hint: make one with `countersign init --data data`, or start with `countersign dev`
    "#);
    assert!(
        !place.path("data").exists(),
        "a refused start makes nothing"
    );
    std::fs::create_dir(place.path("data")).expect("made");
    assert_snapshot!(refused(&place, &[]), @r#"
    3
    error: there is no authority in data
    hint: make one with `countersign init --data data`, or start with `countersign dev`
    "#);
}

#[test]
fn a_folder_that_is_open_elsewhere_ends_with_4() {
    let (place, _) = Place::with_authority();
    let server = place.start(&["serve", "--data", "data"]);
    let serve = ["serve", "--data", "data", "--listen", "127.0.0.1:0"];
    assert_snapshot!(place.run(&serve).refusal(), @r#"
    4
    error: data is in use by another process
    hint: stop the other process; if it is a server, administer it with `--data` or `--url`
    "#);
    for command in ["init", "dev"] {
        assert_eq!(place.run(&[command, "--data", "data"]).code, 4);
    }
    // A command uses the server's door.
    assert_eq!(place.run(&["machine", "list", "--data", "data"]).code, 0);
    assert_eq!(server.stop().code, 0);
}

#[test]
fn a_foreign_folder_ends_with_5() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).expect("made");
    std::fs::write(place.path("data/notes.txt"), "nothing of ours").expect("written");
    assert_snapshot!(refused(&place, &[]), @r#"
    5
    error: data holds files of something else, for instance notes.txt
    hint: choose another folder with --data; nothing was changed in this one
    "#);
    assert_eq!(place.run(&["init", "--data", "data"]).code, 5);
    assert_eq!(place.run(&["dev", "--data", "data"]).code, 5);
    assert_eq!(files(&place.path("data")).len(), 1);
}

#[test]
fn a_database_of_another_version_ends_with_6() {
    let (place, _) = Place::with_authority();
    let database = place.path("data/countersign.db");
    let bytes = std::fs::read(&database).expect("readable");
    // Where SQLite keeps the number of the schema.
    let of_schema = |number: u32| {
        let mut bytes = bytes.clone();
        bytes[60..64].copy_from_slice(&number.to_be_bytes());
        std::fs::write(&database, bytes).expect("written");
    };
    of_schema(99);
    assert_snapshot!(refused(&place, &[]), @r#"
    6
    error: the database was written by a later version (its schema is 99, this program knows up to 2)
    hint: update this program, or restore a backup of the older version
    "#);
    // The builds before the first release called theirs 1.
    of_schema(1);
    assert_snapshot!(refused(&place, &[]), @r#"
    6
    error: data/countersign.db was written by a build before the first release, which this version cannot read
    hint: start with a new data folder; the file was left as it is
    "#);
    for command in ["init", "dev"] {
        assert_eq!(place.run(&[command, "--data", "data"]).code, 6);
    }
    of_schema(2);
    assert_eq!(place.run(&["machine", "list", "--data", "data"]).code, 0);
}

#[test]
fn a_damaged_database_ends_with_7() {
    let (place, _) = Place::with_authority();
    std::fs::write(place.path("data/countersign.db"), vec![7; 8192]).expect("written");
    assert_snapshot!(refused(&place, &[]), @r#"
    7
    error: the database is damaged: the beginning of data/countersign.db is overwritten
    hint: restore a backup; the file was left as it is
    "#);
    let mut damaged = b"SQLite format 3\0".to_vec();
    damaged.resize(8192, 7);
    std::fs::write(place.path("data/countersign.db"), damaged).expect("written");
    assert_eq!(refused(&place, &[]).lines().next(), Some("7"));
}

#[test]
fn a_wrong_missing_or_malformed_master_key_ends_with_8() {
    let (place, _) = Place::with_authority();
    let key = place.path("data/master.key");
    let right = std::fs::read(&key).expect("readable");
    std::fs::write(&key, format!("{}\n", "0".repeat(64))).expect("written");
    assert_snapshot!(refused(&place, &[]), @r#"
    8
    error: the master key does not fit this data folder
    hint: give the key that `countersign init` made, by --master-key-file or COUNTERSIGN_MASTER_KEY; without it the data cannot be opened
    "#);
    std::fs::write(&key, "short").expect("written");
    assert_snapshot!(refused(&place, &[]), @r#"
    8
    error: data/master.key holds no master key
    hint: a master key is 64 hexadecimal digits; `countersign init` makes one in master.key of the data folder
    "#);
    std::fs::remove_file(&key).expect("removed");
    assert_snapshot!(refused(&place, &[]), @r#"
    8
    error: cannot read the master key data/master.key: No such file or directory (os error 2)
    hint: give its place with --master-key-file, or the key in COUNTERSIGN_MASTER_KEY; it is never made anew for existing data
    "#);
    assert!(
        !key.exists(),
        "a master key is never made for existing data"
    );
    let again = place.run(&["init", "--data", "data"]);
    assert_eq!(again.code, 1);
    assert!(
        !key.exists(),
        "a master key is never made for existing data"
    );
    std::fs::write(&key, right).expect("written");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("set");
    assert_eq!(place.run(&["machine", "list", "--data", "data"]).code, 0);
}

#[test]
fn a_wrong_master_key_changes_nothing_after_a_crash_either() {
    let (mut place, key) = Place::with_authority();
    place.set("CLERK_SECRET_KEY", &key);
    let server = place.start(&["serve", "--data", "data"]);
    let create = ["machine", "create", "worker", "--url", &server.url];
    assert_eq!(place.run(&create).code, 0);
    // Without a word of farewell: what was written is in the log.
    drop(server);
    let log = place.path("data/countersign.db-wal");
    assert!(std::fs::metadata(log).expect("a log").len() > 0);
    let name = place.path("data/master.key");
    let right = std::fs::read(&name).expect("readable");
    std::fs::write(&name, format!("{}\n", "0".repeat(64))).expect("written");
    // This compares all files.
    assert!(refused(&place, &[]).starts_with("8\n"));
    std::fs::write(&name, right).expect("written");
    assert_eq!(place.run(&["machine", "list", "--data", "data"]).code, 0);
}

#[test]
fn a_file_that_others_may_read_ends_with_9() {
    let (place, _) = Place::with_authority();
    for name in ["data/master.key", "data/countersign.db"] {
        std::fs::set_permissions(place.path(name), PermissionsExt::from_mode(0o640)).expect("set");
        let refusal = refused(&place, &[]);
        assert!(
            refusal.starts_with("9\n") && refusal.contains(name),
            "{refusal}"
        );
        let cure = refusal.split_once("hint: ").expect("a hint").1;
        assert_eq!(cure, format!("chmod 600 {name}"));
        std::fs::set_permissions(place.path(name), PermissionsExt::from_mode(0o600)).expect("set");
    }
    // Another mode would not help here, and a folder needs another one.
    assert_snapshot!(place.run(&["init", "--data", "/proc/x"]).refusal(), @r#"
    9
    error: /proc/x cannot be made: No such file or directory (os error 2)
    hint: --data must name a folder on a local disk that your user can create, or owns with its files
    "#);
}

#[test]
fn a_taken_port_ends_with_10() {
    let (place, _) = Place::with_authority();
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("an address").to_string();
    let before = files(&place.path("data"));
    let refusal = place
        .run(&["serve", "--data", "data", "--listen", &address])
        .refusal();
    assert_snapshot!(refusal.replace(&address, "ADDRESS"), @r#"
    10
    error: cannot listen on ADDRESS: Address already in use (os error 98)
    hint: stop the program that listens there, or choose another address with --listen; port 0 picks a free one
    "#);
    assert!(
        before == files(&place.path("data")),
        "the refused start changed a file"
    );
    let refusal = place.run(&["dev", "--listen", &address]).refusal();
    assert!(refusal.starts_with("10\n"), "{refusal}");
    assert!(
        !place.path(".countersign").exists(),
        "a refused start makes nothing"
    );
}

#[test]
fn an_address_of_another_machine_ends_with_10_and_is_called_that() {
    let (place, _) = Place::with_authority();
    // An address that is reserved for documentation (RFC 5737).
    let serve = [
        "serve",
        "--data",
        "data",
        "--insecure-http",
        "--listen",
        "192.0.2.1:5000",
    ];
    assert_snapshot!(place.run(&serve).refusal(), @r#"
    10
    error: cannot listen on 192.0.2.1:5000: that is no address of this machine
    hint: choose one that `ip address` shows, or 0.0.0.0 for all of them
    "#);
}

#[test]
fn an_address_that_is_none_is_told_from_how_one_is_written() {
    let place = Place::new();
    assert_snapshot!(place.run(&["serve", "--listen", "4850"]).refusal(), @r#"
    2
    error: invalid value '4850' for '--listen <ADDRESS>': write an IP address and a port, like 127.0.0.1:4840
    hint: --help has an example
    "#);
    for text in ["localhost:0", "127.0.0.1:80000", ""] {
        for flag in ["--listen", "--admin-listen"] {
            let refusal = place.run(&["serve", flag, text]).refusal();
            assert!(
                refusal.starts_with("2\n") && refusal.contains("like 127.0.0.1:4840"),
                "{refusal}"
            );
        }
    }
    let configured = |text: &str| {
        std::fs::write(place.path("c.toml"), text).expect("written");
        place.run(&["serve", "--config", "c.toml"]).refusal()
    };
    assert_snapshot!(configured("listen = 4850\n"), @r#"
    11
    error: c.toml, line 1, listen: invalid type: integer `4850`, expected an IP address and a port, like 127.0.0.1:4840
    hint: the keys are the flags' names with underscores; see docs/reference/config.md
    "#);
    assert_snapshot!(configured("data = \"data\"\nadmin_listen = \"localhost:0\"\n"), @r#"
    11
    error: c.toml, line 2, admin_listen: invalid value: string "localhost:0", expected an IP address and a port, like 127.0.0.1:4840
    hint: the keys are the flags' names with underscores; see docs/reference/config.md
    "#);
}

#[test]
fn a_number_that_makes_no_sense_ends_with_11() {
    let place = Place::new();
    assert_snapshot!(place.run(&["serve", "--threads", "0"]).refusal(), @r#"
    11
    error: threads cannot be 0
    hint: give 1 to 1024, or leave it out for one per core
    "#);
    assert_snapshot!(place.run(&["dev", "--max-auth-failures", "0"]).refusal(), @r#"
    11
    error: max_auth_failures cannot be 0: then nobody would learn that a key is wrong
    hint: give 1 or more, or leave it out for 20
    "#);
    std::fs::write(place.path("c.toml"), "threads = 1025\n").expect("written");
    let refusal = place.run(&["serve", "--config", "c.toml"]).refusal();
    assert!(
        refusal.starts_with("11\nerror: threads cannot be 1025\n"),
        "{refusal}"
    );
    assert!(
        !place.path(".countersign").exists(),
        "a refusal makes nothing"
    );
}

#[test]
fn a_wrong_setting_ends_with_11_and_is_named() {
    let mut place = Place::new();
    let configured = |text: &str| {
        std::fs::write(place.path("c.toml"), text).expect("written");
        place
            .run(&["serve", "--data", "data", "--config", "c.toml"])
            .refusal()
    };
    assert_snapshot!(configured("lisen = \"127.0.0.1:1\"\n"), @r#"
    11
    error: c.toml, line 1, lisen: unknown field `lisen`, expected one of `listen`, `data`, `master_key_file`, `public_url`, `admin_listen`, `tls_certificate`, `tls_key`, `insecure_http`, `trusted_proxies`, `threads`, `token_index_mib`, `max_auth_failures`, `max_reveals`, `log`, `log_format`, `otlp_endpoint`
    hint: the keys are the flags' names with underscores; see docs/reference/config.md
    "#);
    assert_snapshot!(configured("log = \"info\"\nthreads = \"many\"\n"), @r#"
    11
    error: c.toml, line 2, threads: invalid type: string "many", expected usize
    hint: the keys are the flags' names with underscores; see docs/reference/config.md
    "#);
    assert_snapshot!(configured("listen = \"0.0.0.0:4840\"\n"), @r#"
    11
    error: 0.0.0.0:4840 is not loopback, and plain HTTP would show every key on the network
    hint: give --tls-certificate and --tls-key, or --insecure-http where a proxy in front speaks TLS
    "#);
    assert_snapshot!(configured("listen = \"0.0.0.0:4840\"\ntls_certificate = \"a.pem\"\n"), @r#"
    11
    error: TLS needs a certificate and its key, and only one of them was given
    hint: give both tls_certificate and tls_key, or neither
    "#);
    assert_snapshot!(configured("public_url = \"auth.example.com\"\n"), @r#"
    11
    error: the public URL 'auth.example.com' cannot be used
    hint: write it like https://auth.example.com, without a slash at the end
    "#);
    let init = [
        "init",
        "--data",
        "data",
        "--public-url",
        "https://a.example/",
    ];
    assert!(place.run(&init).refusal().starts_with("11\n"));
    assert!(!place.path("data").exists(), "a refusal makes nothing");
    assert_snapshot!(configured("log = \"info,=\"\n"), @r#"
    11
    error: the log filter 'info,=' cannot be understood: invalid filter directive
    hint: write a level (error, warn, info, debug, trace) or directives like info,countersign::verification=debug
    "#);
    assert_snapshot!(place.run(&["serve"]).refusal(), @r#"
    11
    error: no data folder was named
    hint: give --data DIR or COUNTERSIGN_DATA, the folder that `countersign init` made
    "#);
    assert_snapshot!(place.run(&["machine", "list"]).refusal(), @r#"
    11
    error: no authority was named
    hint: give --url URL (or CLERK_API_URL) with the key in CLERK_SECRET_KEY, or --data DIR to act on a data folder
    "#);
    assert_snapshot!(place.run(&["machine", "list", "--url", "https://a.example"]).refusal(), @r#"
    11
    error: this needs the instance key
    hint: put it into CLERK_SECRET_KEY, or name its file with --secret-key-file; never put it on the command line
    "#);
    place.set("CLERK_SECRET_KEY", "sk_test_0123456789abcdef");
    assert_snapshot!(place.run(&["machine", "list", "--url", "http://a.example"]).refusal(), @"
    11
    error: the authority's address cannot be used: to send the key to a.example over plain HTTP would show it to everybody on the way, and that was not allowed; write it like https://auth.example.com, with or without /v1
    hint: --url or CLERK_API_URL gives it; --insecure-http sends keys over plain HTTP, where the way there is safe
    ");
    place.set("CLERK_SECRET_KEY", "ak_0123456789abcdef");
    assert_snapshot!(place.run(&["machine", "list", "--url", "https://a.example"]).refusal(), @r#"
    11
    error: the value given as an instance key is not an instance key
    hint: instance keys begin with sk_ and go into CLERK_SECRET_KEY; machine keys begin with ak_ and go into CLERK_MACHINE_SECRET_KEY
    "#);
}

#[test]
fn what_the_authority_refuses_ends_with_13_and_tells_code_and_trace() {
    let (mut place, _) = Place::with_authority();
    let server = place.start(&["serve", "--data", "data"]);
    place.set("CLERK_API_URL", &server.url);
    place.set("CLERK_SECRET_KEY", &format!("sk_live_{}", "x".repeat(42)));
    let refusal = place.run(&["machine", "list"]).refusal();
    let (before, after) = refusal.split_once("trace ").expect("a trace id");
    let (trace, after) = after.split_at(32);
    assert!(
        trace.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{trace}"
    );
    assert_snapshot!(format!("{before}trace TRACE{after}"), @r#"
    13
    error: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct (clerk_key_invalid, trace TRACE)
    hint: check CLERK_SECRET_KEY; `countersign instance key create --data DIR` makes a new key
    "#);
}

#[test]
fn an_authority_that_cannot_be_reached_ends_with_14() {
    let mut place = Place::new();
    place.set("CLERK_SECRET_KEY", "sk_test_0123456789abcdef");
    let free = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    let refusal = place
        .run(&["machine", "list", "--url", &format!("http://{free}")])
        .refusal();
    assert_snapshot!(refusal.replace(&free.to_string(), "ADDRESS"), @r#"
    14
    error: cannot reach http://ADDRESS: Connection refused (os error 111)
    hint: is the authority running, and is the address right? `countersign dev` starts one on http://127.0.0.1:4840
    "#);
}

#[test]
fn a_wrong_address_of_an_authority_ends_with_14_and_is_told_from_a_wrong_id() {
    let (mut place, key) = Place::with_authority();
    place.set("CLERK_SECRET_KEY", &key);
    let server = place.start(&["serve", "--data", "data"]);
    let address = server.url.strip_prefix("http://").expect("an address");
    let refused = |url: &str| {
        let refusal = place.run(&["machine", "list", "--url", url]).refusal();
        refusal.replace(address, "ADDRESS")
    };
    assert_snapshot!(refused(&format!("http://{address}/v2")), @r#"
    14
    error: the address http://ADDRESS/v2 is wrong: the authority there has no path /v2/v1/machines
    hint: leave /v2 out of the address: http://ADDRESS, with or without /v1
    "#);
    let unknown = place.run(&[
        "machine",
        "show",
        "mch_2GIoQhbUpy0hX7B2cVkuTMinXoD",
        "--url",
        &server.url,
    ]);
    assert_eq!(unknown.code, 13, "{}", unknown.stderr);
}

#[test]
fn plain_http_under_an_https_address_ends_with_14_and_is_named() {
    let (mut place, key) = Place::with_authority();
    place.set("CLERK_SECRET_KEY", &key);
    let server = place.start(&["serve", "--data", "data"]);
    let address = server.url.strip_prefix("http://").expect("an address");
    let url = format!("https://{address}");
    let refusal = place.run(&["machine", "list", "--url", &url]).refusal();
    assert_snapshot!(refusal.replace(address, "ADDRESS"), @r#"
    14
    error: cannot reach https://ADDRESS: what answers there does not speak TLS
    hint: the server may use plain HTTP; try http://ADDRESS
    "#);
}

#[test]
fn a_machine_without_certificate_authorities_is_told_so_and_needs_none_for_itself() {
    let (mut place, key) = Place::with_authority();
    place.set("CLERK_SECRET_KEY", &key);
    place.set("SSL_CERT_FILE", "/dev/null");
    place.set("SSL_CERT_DIR", "/dev/null");
    let server = place.start(&["serve", "--data", "data"]);
    assert_eq!(
        place.run(&["machine", "list", "--url", &server.url]).code,
        0
    );
    let refusal = place
        .run(&["machine", "list", "--url", "https://a.example"])
        .refusal();
    assert_snapshot!(refusal, @"
    11
    error: no certificate authority can be trusted (unexpected error: No CA certificates were loaded from the system); install the package ca-certificates, or name a PEM file in SSL_CERT_FILE
    ");
}

/// A server that gives one answer, whatever is asked; the request is what comes of its thread.
fn answering(answer: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 2048];
        let length = stream.read(&mut request).expect("a request");
        stream.write_all(answer.as_bytes()).expect("written");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (url, server)
}

#[test]
fn what_another_server_says_does_not_steer_the_terminal() {
    let mut place = Place::new();
    place.set("CLERK_SECRET_KEY", "sk_test_0123456789abcdef");
    let key = r#"{"object":"instance_key","id":"ik_\u001b]0;owned\u0007","secret_key":"sk_live_\u001b[31m","created_at":1,"last_used_at":null,"live":true,"revoked_at":null,"hint":"x"}"#;
    let refusal = r#"{"errors":[{"message":"m","long_message":"a\u001b[2J\u202e","code":"c\u202e\u001b]0;owned\u0007"}],"clerk_trace_id":"t\u200b\u001b[31m"}"#;
    let create = ["instance", "key", "create", "--url"];
    let list = ["machine", "list", "--url"];
    for (status, body, arguments) in [
        ("200 OK", key, &create[..]),
        ("403 Forbidden", refusal, &list),
    ] {
        let length = body.len();
        let (url, server) = answering(format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let ended = place.run(&[arguments, &[&url]].concat());
        assert_ne!(ended.code, 0, "{}", ended.stdout);
        server.join().expect("served");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        let steers = |letter: char| {
            (letter.is_control() && letter != '\n') || matches!(letter, '\u{202e}' | '\u{200b}')
        };
        assert!(!said.contains(steers), "{said:?}");
    }
}

#[test]
fn a_response_without_the_new_secret_ends_with_14_and_writes_no_file() {
    let mut place = Place::new();
    place.set("CLERK_SECRET_KEY", "sk_test_0123456789abcdef");
    let key = r#"{"created_at":1,"id":"key_0123456789ab","object":"instance_key"}"#;
    let machine = r#"{"object":"machine","id":"mch_2GIoQhbUpy0hX7B2cVkuTMinXoD","instance_id":"ins_2GIoQhbUpy0hX7B2cVkuTMinXoD","name":"a","created_at":1,"updated_at":1,"default_token_ttl":3600,"scoped_machines":[]}"#;
    for (body, arguments) in [
        (key, &["instance", "key", "create"][..]),
        (machine, &["machine", "create", "a"]),
    ] {
        let length = body.len();
        let (url, server) = answering(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let refusal = place.run(&[arguments, &["--output", "new.key", "--url", &url]].concat());
        server.join().expect("served");
        let refusal = refusal.refusal();
        assert!(
            refusal.starts_with("14\n") && refusal.contains("does not contain the new key"),
            "{refusal}"
        );
        assert!(!place.path("new.key").exists());
    }
}

#[test]
fn a_check_of_the_log_that_does_not_get_to_the_end_ends_with_14() {
    let mut place = Place::new();
    place.set("CLERK_SECRET_KEY", "sk_test_0123456789abcdef");
    let body =
        r#"{"complete":false,"first_broken":null,"object":"change_log_report","verified":0}"#;
    let length = body.len();
    let (url, server) = answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    let refusal = place.run(&["audit", "verify", "--url", &url]).refusal();
    server.join().expect("served");
    assert!(
        refusal.starts_with("14\n") && refusal.contains("did not finish its check"),
        "{refusal}"
    );
}

#[test]
fn what_is_no_authority_ends_with_14_and_gets_no_second_request() {
    let mut place = Place::new();
    place.set("CLERK_SECRET_KEY", "sk_test_0123456789abcdef");
    for (answer, expected) in [
        (
            "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
            "it redirects to https://elsewhere.example/",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ht>",
            "is not an authority that this program knows",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            "it answered with status 502",
        ),
    ] {
        let (url, server) = answering(answer.to_owned());
        let refusal = place.run(&["machine", "list", "--url", &url]).refusal();
        assert!(
            refusal.starts_with("14\n") && refusal.contains(expected),
            "{refusal}"
        );
        assert!(
            server
                .join()
                .expect("served")
                .starts_with("GET /v1/machines?")
        );
    }
}

#[test]
fn an_overloaded_authority_ends_with_15() {
    let (mut place, key) = Place::with_authority();
    place.set("CLERK_SECRET_KEY", &key);
    let server = place.start(&["serve", "--data", "data", "--max-reveals", "1"]);
    place.set("CLERK_API_URL", &server.url);
    assert_eq!(place.run(&["machine", "create", "sender"]).code, 0);
    let outcomes: Vec<i32> = (0..3)
        .map(|_| place.run(&["machine", "secret", "sender"]).code)
        .collect();
    assert!(outcomes.contains(&15), "{outcomes:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (place, _) = Place::with_authority();
    let mut child = place
        .command(&["audit", "list", "--data", "data"])
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    assert!(child.wait().expect("ends").success());
}
