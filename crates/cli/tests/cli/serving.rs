//! `dev`, `init` and `serve`: starting, finding its state again, stopping.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use countersign_authority::{Authority, MasterKey, SystemClock, SystemRandom};
use countersign_store::{StoreChoice, StoreOptions};

use crate::support::{Place, ask, files};

#[test]
fn a_second_start_of_dev_finds_its_state() {
    let place = Place::new();
    let server = place.start(&["dev"]);
    // A command in the same folder finds address and key by itself.
    let made = place.run(&["machine", "create", "kept", "--json"]);
    assert_eq!(
        made.stderr,
        format!(
            "Using {} and the key in .countersign/dev.env.\n",
            server.url
        )
    );
    assert_eq!(made.json()["name"], "kept");
    let key = dev_key(&place);
    let first = server.stop();
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stdout.contains("with a new authority") && first.stdout.contains(&key));
    assert!(!first.stderr.contains(&key), "the log holds no key");

    let server = place.start(&["dev"]);
    let list = place.run(&["machine", "list", "--json"]).json();
    assert_eq!(list["data"][0]["name"], "kept");
    let second = server.stop();
    assert!(
        second.stdout.contains("is running again") && second.stdout.contains(&key),
        "{}",
        second.stdout
    );
}

#[test]
fn a_key_without_an_address_is_neither_passed_over_for_the_one_of_dev_nor_sent_there() {
    let mut place = Place::new();
    let server = place.start(&["dev"]);
    let expected = |name: &str| {
        format!(
            "11\nerror: {name} gives a key, and no authority was named\nhint: give its address with --url or CLERK_API_URL, \
             or use what `countersign dev` wrote: --env-file .countersign/dev.env"
        )
    };
    let list = ["machine", "list"];
    for flag in ["--secret-key-file", "--machine-key-file"] {
        let refusal = place.run(&["machine", "list", flag, "some.key"]).refusal();
        assert_eq!(refusal, expected(flag));
    }
    for (name, key) in [
        ("CLERK_SECRET_KEY", "sk_test_0123456789abcdef"),
        ("CLERK_MACHINE_SECRET_KEY", "ak_0123456789abcdef"),
    ] {
        place.set(name, key);
        assert_eq!(place.run(&list).refusal(), expected(name));
        // What is named is used, and with an address the key that was exported.
        let named = ["machine", "list", "--env-file", ".countersign/dev.env"];
        assert_eq!(place.run(&named).code, 0);
        assert_ne!(
            place.run(&["machine", "list", "--url", &server.url]).code,
            0
        );
        place.set(name, "");
    }
    assert_eq!(place.run(&list).code, 0);
    assert_eq!(server.stop().code, 0);
}

#[test]
fn dev_makes_a_key_where_the_first_start_was_cut_off_before_it_was_written() {
    let place = Place::new();
    assert_eq!(place.start(&["dev"]).stop().code, 0);
    std::fs::remove_file(place.path(".countersign/dev.env")).expect("removed");
    let server = place.start(&["dev"]);
    assert!(dev_key(&place).starts_with("sk_test_"));
    assert_eq!(
        place.run(&["instance", "key", "list", "--json"]).json()["total_count"],
        2
    );
    let said = server.stop().stdout;
    assert!(said.contains("again, with a new secret key;"), "{said}");
    let said = place.start(&["dev"]).stop().stdout;
    assert!(!said.contains("new secret key"), "{said}");
}

#[test]
fn the_command_that_dev_prints_works_in_another_terminal() {
    let mut place = Place::new();
    let executable = Path::new(env!("CARGO_BIN_EXE_countersign"));
    let folder = executable
        .parent()
        .and_then(Path::to_str)
        .expect("a folder");
    for (path, begins) in [
        ("/usr/bin:/bin".to_owned(), executable.display().to_string()),
        (format!("/usr/bin:{folder}"), "countersign".to_owned()),
    ] {
        place.set("PATH", &path);
        let server = place.start(&["dev", "--data", "my data"]);
        let list = |command: &str| {
            std::process::Command::new("/bin/sh")
                .args(["-c", command])
                .current_dir(place.path(""))
                .env_clear()
                .env("PATH", &path)
                .output()
                .expect("a shell")
        };
        let command = format!("{begins} machine list --env-file 'my data/dev.env'");
        assert!(list(&command).status.success(), "{command}");
        let said = server.stop().stdout;
        assert!(said.contains(&format!("\n  {command}\n")), "{said}");
    }
}

fn dev_key(place: &Place) -> String {
    let env = std::fs::read_to_string(place.path(".countersign/dev.env")).expect("a file");
    env.lines()
        .find_map(|line| line.strip_prefix("CLERK_SECRET_KEY="))
        .expect("a key")
        .to_owned()
}

/// A folder as `init` leaves it when it is cut off behind the data keys.
fn interrupted(place: &Place) {
    let (master, random) = (MasterKey::generate(&SystemRandom), SystemRandom);
    let choice = StoreChoice::Folder(place.path("data"));
    let store = choice.create(StoreOptions::default()).expect("made");
    std::fs::write(place.path("data/master.key"), master.expose().as_bytes()).expect("written");
    std::fs::set_permissions(
        place.path("data/master.key"),
        PermissionsExt::from_mode(0o600),
    )
    .expect("set");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime
        .block_on(Authority::initialize(
            &store,
            &master,
            &SystemClock::default(),
            &random,
        ))
        .expect("initialized");
}

#[test]
fn init_and_dev_finish_what_an_init_began_that_was_cut_off_before_the_instance() {
    let place = Place::new();
    interrupted(&place);
    let master = std::fs::read(place.path("data/master.key")).expect("a file");
    let refusal = place
        .run(&["serve", "--data", "data", "--listen", "127.0.0.1:0"])
        .refusal();
    assert!(
        refusal.starts_with("3\n")
            && refusal.contains("run `countersign init` on this folder again"),
        "{refusal}"
    );
    assert!(place.run(&["init", "--data", "data", "--json"]).json()["secret_key"].is_string());
    assert_eq!(
        std::fs::read(place.path("data/master.key")).expect("a file"),
        master,
        "the master key stays"
    );
    assert_eq!(
        place
            .run(&["instance", "list", "--data", "data", "--json"])
            .json()["total_count"],
        1
    );

    let place = Place::new();
    interrupted(&place);
    let server = place.start(&["dev", "--data", "data"]);
    assert_eq!(
        place
            .run(&["machine", "list", "--env-file", "data/dev.env"])
            .code,
        0
    );
    assert_eq!(server.stop().code, 0);
}

#[test]
fn init_finishes_what_an_init_began_that_was_cut_off_at_its_start() {
    let place = Place::new();
    // As after a crash right behind the folder, the lock and the empty file; later moments follow from the store's transactions.
    std::fs::create_dir(place.path("data")).expect("made");
    for name in ["countersign.lock", "countersign.db"] {
        std::fs::write(place.path("data").join(name), "").expect("written");
        std::fs::set_permissions(
            place.path("data").join(name),
            PermissionsExt::from_mode(0o600),
        )
        .expect("set");
    }
    assert_eq!(place.run(&["serve", "--data", "data"]).code, 3);
    assert!(place.run(&["init", "--data", "data", "--json"]).json()["secret_key"].is_string());
    let before = files(&place.path("data"));
    assert_eq!(
        place
            .run(&["init", "--data", "data"])
            .refusal()
            .lines()
            .next(),
        Some("1")
    );
    assert!(
        before == files(&place.path("data")),
        "a second init changes nothing"
    );
    assert_eq!(place.run(&["audit", "verify", "--data", "data"]).code, 0);
}

#[test]
fn init_prints_one_object_and_nothing_else() {
    let place = Place::new();
    let made = place.run(&["init", "--data", "data", "--json"]);
    assert_eq!(made.stderr, "");
    assert_eq!(
        made.json()
            .as_object()
            .map(|keys| keys.keys().cloned().collect::<Vec<_>>()),
        Some(
            ["instance_id", "publishable_key", "secret_key"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    let hidden = place.run(&[
        "init",
        "--data",
        "other",
        "--json",
        "--output",
        "key",
        "--master-key-file",
        "elsewhere.key",
    ]);
    assert!(hidden.json().get("secret_key").is_none());
    assert!(
        std::fs::read_to_string(place.path("key"))
            .expect("a file")
            .starts_with("sk_live_")
    );
    assert!(place.path("elsewhere.key").exists() && !place.path("other/master.key").exists());
    assert_eq!(
        place
            .run(&[
                "machine",
                "list",
                "--data",
                "other",
                "--master-key-file",
                "elsewhere.key"
            ])
            .code,
        0
    );
}

/// The command that `init` printed for starting what it made.
fn start_line(said: &str) -> String {
    let program = format!("Start it with: {} ", env!("CARGO_BIN_EXE_countersign"));
    said.lines()
        .find_map(|line| line.strip_prefix(&program))
        .unwrap_or_else(|| panic!("no line: {said}"))
        .to_owned()
}

#[test]
fn init_says_how_to_start_with_what_it_was_told() {
    let place = Place::new();
    let said = place.run(&["init", "--data", "data"]).stdout;
    assert!(
        said.contains("The secret key is shown this once.")
            && said.contains("The master key is in data/master.key:"),
        "{said}"
    );
    assert_eq!(start_line(&said), "serve --data data");

    let told = "--data other --master-key-file elsewhere.key --public-url https://auth.example.com";
    let init: Vec<&str> = ["init", "--output", "key"]
        .into_iter()
        .chain(told.split(' '))
        .collect();
    let said = place.run(&init).stdout;
    assert!(
        said.contains("The master key is in elsewhere.key:") && !said.contains("shown this once"),
        "{said}"
    );
    assert_eq!(start_line(&said), format!("serve {told}"));
    let line = start_line(&said);
    let serve: Vec<&str> = line.split(' ').collect();
    let server = place.start(&serve);
    let issuer = place.run(&[
        "instance",
        "show",
        "--json",
        "--url",
        &server.url,
        "--secret-key-file",
        "key",
    ]);
    assert_eq!(issuer.json()["issuer"], "https://auth.example.com");
}

#[test]
fn init_says_that_the_master_key_came_from_the_environment() {
    let mut place = Place::new();
    place.set("COUNTERSIGN_MASTER_KEY", &"5".repeat(64));
    let said = place.run(&["init", "--data", "data", "--master-key-file", "unused"]);
    assert!(
        said.stdout
            .contains("came from COUNTERSIGN_MASTER_KEY and is kept in no file")
            && !said.stdout.contains("The master key is in"),
        "{}",
        said.stdout
    );
    assert_eq!(start_line(&said.stdout), "serve --data data");
    assert!(!place.path("unused").exists() && !place.path("data/master.key").exists());
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let (mut place, key) = Place::with_authority();
    std::fs::write(
        place.path("c.toml"),
        "data = \"data\"\npublic_url = \"https://file.example\"\nlog = \"error\"\n",
    )
    .expect("written");
    let issuer = |place: &Place, arguments: &[&str]| {
        let arguments: Vec<&str> = ["serve", "--config", "c.toml"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let server = place.start(&arguments);
        place
            .run(&["instance", "show", "--json", "--url", &server.url])
            .json()["issuer"]
            .clone()
    };
    place.set("CLERK_SECRET_KEY", &key);
    assert_eq!(issuer(&place, &[]), "https://file.example");
    place.set("COUNTERSIGN_PUBLIC_URL", "https://environment.example");
    assert_eq!(issuer(&place, &[]), "https://environment.example");
    assert_eq!(
        issuer(&place, &["--public-url", "https://flag.example"]),
        "https://flag.example"
    );
}

#[test]
fn a_server_that_is_stopped_closes_the_store() {
    let (mut place, key) = Place::with_authority();
    place.set("CLERK_SECRET_KEY", &key);
    let server = place.start(&["serve", "--data", "data"]);
    let create = ["machine", "create", "worker", "--url", &server.url];
    assert_eq!(place.run(&create).code, 0);
    let log = place.path("data/countersign.db-wal");
    let bytes = || std::fs::metadata(&log).expect("a log").len();
    assert_ne!(bytes(), 0);
    assert_eq!(server.stop().code, 0);
    assert_eq!(bytes(), 0, "the log was not moved to the database");
}

#[test]
fn the_port_file_has_the_port() {
    let (place, _) = Place::with_authority();
    let server = place.start(&["serve", "--data", "data", "--port-file", "port"]);
    assert_eq!(
        std::fs::read_to_string(place.path("port")).expect("a file"),
        server.port()
    );
    drop(server);
    let nowhere = ["serve", "--data", "data", "--listen", "127.0.0.1:0"];
    let refusal = |file| {
        let arguments: Vec<&str> = nowhere.into_iter().chain(["--port-file", file]).collect();
        place.run(&arguments).refusal()
    };
    assert!(
        refusal("nowhere/port")
            .contains("cannot write nowhere/port: the folder nowhere is missing\n")
    );
    assert!(refusal("port/port").contains("cannot write port/port: port is no folder\n"));
}

#[test]
fn an_authority_without_an_index_of_tokens_reads_the_database() {
    let (mut place, key) = Place::with_authority();
    place.set("CLERK_SECRET_KEY", &key);
    let server = place.start(&["serve", "--data", "data", "--token-index-mib", "0"]);
    place.set("CLERK_API_URL", &server.url);
    assert_eq!(place.run(&["machine", "create", "ledger"]).code, 0);
    let create = ["machine", "create", "billing", "--calls", "ledger"];
    assert_eq!(place.run(&create).code, 0);
    let token = place
        .run(&["token", "create", "--machine", "billing"])
        .stdout;
    for _ in 0..2 {
        let verify = ["token", "verify", "--machine", "ledger", "--json"];
        let verified = place.run_with(&verify, &token);
        assert_eq!(verified.code, 0, "{}", verified.stderr);
    }
}

#[test]
fn a_log_of_json_is_json_from_the_first_line_on() {
    let (place, _) = Place::with_authority();
    for level in ["info", "off"] {
        let server = place.start(&[
            "serve",
            "--data",
            "data",
            "--log-format",
            "json",
            "--log",
            level,
            "--admin-listen",
            "127.0.0.1:0",
        ]);
        let url = server.url.clone();
        let log = server.stop().stderr;
        let lines: Vec<serde_json::Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect();
        assert_eq!(lines[0]["message"], format!("listening on {url}"));
        assert_eq!(lines[0]["url"], url);
        assert_eq!(lines[0]["level"], "INFO");
        let metrics = lines[1]["message"].as_str().expect("a message");
        assert!(
            metrics.starts_with("metrics on http://127.0.0.1:"),
            "{metrics}"
        );
        assert_eq!(lines.len() == 2, level == "off", "{log}");
    }
}

#[test]
fn a_refused_request_is_logged_with_the_plain_name_of_its_operation_or_none() {
    let (mut place, _) = Place::with_authority();
    let server = place.start(&[
        "serve",
        "--data",
        "data",
        "--log",
        "debug",
        "--log-format",
        "json",
    ]);
    place.set("CLERK_SECRET_KEY", &format!("sk_live_{}", "x".repeat(42)));
    for path in ["", "/elsewhere"] {
        let url = format!("{}{path}", server.url);
        assert_ne!(place.run(&["machine", "list", "--url", &url]).code, 0);
    }
    let log = server.stop().stderr;
    let operations: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.contains("request refused"))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .map(|line: serde_json::Value| line["operation"].clone())
        .collect();
    assert_eq!(
        operations,
        [serde_json::json!("ListMachines"), serde_json::Value::Null],
        "{log}"
    );
}

#[test]
fn the_allocator_was_compiled_with_the_settings_in_cargos_configuration() {
    let mut place = Place::new();
    place.set("MIMALLOC_VERBOSE", "1");
    let said = place.run(&["--version"]).stderr;
    for setting in [
        "option 'arena_eager_commit': 0 \n",
        "option 'arena_max_object_size': 1024 KiB\n",
        "option 'allow_thp': 1 \n",
    ] {
        assert!(said.contains(setting), "{setting} is not in {said}");
    }
}

/// The status of a request for `path` with these lines after the request line.
fn status(address: &str, path: &str, lines: &str) -> String {
    let answer = ask(
        address,
        &format!("GET {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"),
    );
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_request_names_exactly_one_valid_host() {
    let (place, _) = Place::with_authority();
    let server = place.start(&["serve", "--data", "data"]);
    let address = server.address();
    for path in ["/healthz", "/v1/machines", "/nowhere"] {
        for wrong in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a b\r\n",
            "Host: user@a\r\n",
            "Host: a/b\r\n",
        ] {
            assert_eq!(status(address, path, wrong), "400", "{path} {wrong}");
        }
    }
    for right in [
        "Host: a\r\n",
        "Host:\r\n",
        "Host: [::1]:1\r\n",
        "Host: auth.example.com:443\r\n",
    ] {
        assert_eq!(status(address, "/healthz", right), "200", "{right}");
    }
    let old = ask(address, "GET /healthz HTTP/1.0\r\n\r\n");
    assert!(old.contains(" 200 "), "HTTP/1.0 knows no Host: {old}");
}

#[test]
fn a_web_page_that_borrows_this_machines_address_reads_neither_metrics_nor_dev() {
    let (place, _) = Place::with_authority();
    let here = [
        "localhost:4840",
        "127.0.0.1",
        "[::1]:4840",
        "a.localhost",
        "auth.example.com",
    ];
    let server = place.start(&[
        "serve",
        "--data",
        "data",
        "--public-url",
        "https://auth.example.com",
    ]);
    let address = server.address();
    for host in here {
        assert_eq!(
            status(address, "/metrics", &format!("Host: {host}\r\n")),
            "200",
            "{host}"
        );
    }
    assert_eq!(status(address, "/metrics", "Host: evil.example\r\n"), "400");
    assert_eq!(
        status(address, "/healthz", "Host: behind-a-proxy\r\n"),
        "200"
    );

    let dev = Place::new();
    let server = dev.start(&["dev"]);
    for path in ["/healthz", "/swagger", "/v1/jwks", "/nowhere"] {
        assert_eq!(
            status(server.address(), path, "Host: evil.example\r\n"),
            "400",
            "{path}"
        );
    }
    assert_eq!(
        status(server.address(), "/healthz", "Host: localhost\r\n"),
        "200"
    );
}

#[test]
fn a_browser_is_led_to_the_documentation() {
    let (place, _) = Place::with_authority();
    let server = place.start(&["serve", "--data", "data"]);
    let answer = ask(
        server.address(),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(
        answer.starts_with("HTTP/1.1 302 ") && answer.contains("location: swagger\r\n"),
        "{answer}"
    );
}

#[test]
fn a_hangup_ends_the_process_as_sigterm_does() {
    let (place, _) = Place::with_authority();
    let server = place.start(&["serve", "--data", "data"]);
    server.send(rustix::process::Signal::HUP);
    let ended = server.ended();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped"), "{}", ended.stderr);
}

#[test]
fn a_process_that_was_started_to_survive_a_hangup_does() {
    let (place, _) = Place::with_authority();
    let executable = env!("CARGO_BIN_EXE_countersign");
    let mut child = std::process::Command::new("nohup")
        .args([
            executable,
            "serve",
            "--data",
            "data",
            "--listen",
            "127.0.0.1:0",
            "--port-file",
            "port",
        ])
        .current_dir(place.path(""))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    while !place.path("port").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it lives");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(child.try_wait().expect("a child").is_none(), "it ended");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

#[test]
fn a_second_interrupt_ends_the_process_at_once() {
    let (place, _) = Place::with_authority();
    let server = place.start(&["serve", "--data", "data"]);
    // A request that is under way holds the process up for seconds.
    let mut slow = std::net::TcpStream::connect(server.address()).expect("listens");
    std::io::Write::write_all(&mut slow, b"GET /healthz HTTP/1.1\r\n").expect("open");
    std::thread::sleep(std::time::Duration::from_millis(100));
    server.send(rustix::process::Signal::INT);
    std::thread::sleep(std::time::Duration::from_millis(300));
    server.send(rustix::process::Signal::INT);
    let ended = server.ended();
    assert_eq!(ended.code, 130, "{}", ended.stderr);
}
