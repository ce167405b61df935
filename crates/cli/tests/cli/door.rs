//! The operator's door of a data folder: commands with `--data`, while a server runs and while none does.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Place, Server};

const DOOR: &str = "data/operator.sock";

fn json(place: &Place, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments
        .iter()
        .copied()
        .chain(["--data", "data", "--json"])
        .collect();
    place.run(&arguments).json()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect("a text")
}

fn served() -> (Place, Server) {
    let (mut place, key) = Place::with_authority();
    place.set("CLERK_SECRET_KEY", &key);
    let server = place.start(&["serve", "--data", "data"]);
    (place, server)
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::symlink_metadata(path).expect("there");
    assert!(metadata.file_type().is_socket());
    metadata.permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
}

#[test]
fn what_the_operator_does_counts_at_once_for_the_server() {
    let (place, server) = served();
    let verify = |token: &str| {
        let verify = ["token", "verify", "--url", &server.url];
        place.run_with(&verify, token).code
    };
    let receiver = json(&place, &["machine", "create", "receiver"]);
    let create = ["machine", "create", "sender", "--calls", "receiver"];
    json(&place, &create);
    for format in ["opaque", "jwt"] {
        let issued = json(&place, &["token", "create", "sender", "--format", format]);
        let token = text(&issued, "token");
        assert_eq!(verify(token), 0);
        let as_receiver = ["token", "verify", "--data", "data", "--machine", "receiver"];
        assert_eq!(place.run_with(&as_receiver, token).code, 0);
        json(&place, &["token", "revoke", text(&issued, "id"), "--yes"]);
        assert_eq!(verify(token), 16, "{format}");
        assert_eq!(place.run_with(&as_receiver, token).code, 16);
    }
    // The server's own public URL is the issuer.
    let shown = json(&place, &["instance", "show"]);
    assert_eq!(text(&shown, "issuer"), server.url);
    // The change log names the operator, and it is whole.
    let changes = json(&place, &["audit", "list"]);
    let last = changes["data"].as_array().expect("a list").last();
    assert_eq!(text(last.expect("a record"), "actor"), "operator");
    assert_eq!(
        json(&place, &["audit", "verify"])["first_broken"],
        Value::Null
    );
    let over_http = place.run(&["audit", "verify", "--url", &server.url, "--json"]);
    assert_eq!(over_http.json(), json(&place, &["audit", "verify"]));
    assert_eq!(text(&receiver, "object"), "machine");
    assert_eq!(server.stop().code, 0);
}

#[test]
fn instances_are_made_and_listed_while_the_server_runs() {
    let (mut place, server) = served();
    let made = json(&place, &["instance", "create", "staging"]);
    assert_eq!(json(&place, &["instance", "list"])["total_count"], 2);
    let refusal = place.run(&["machine", "list", "--data", "data"]).refusal();
    assert!(
        refusal.starts_with("11\nerror: the data folder has several instances\nhint: give --instance with one of: ins_"),
        "{refusal}"
    );
    let there = ["machine", "create", "there", "--instance", "staging"];
    assert_eq!(json(&place, &there)["instance_id"], made["instance_id"]);
    // The new key works over the network at once, and is not enough to see the other instance.
    place.set("CLERK_SECRET_KEY", text(&made, "secret_key"));
    let list = ["machine", "list", "--url", &server.url, "--json"];
    assert_eq!(place.run(&list).json()["total_count"], 1);
    let refusal = place.run(&["instance", "list", "--url", &server.url]);
    assert_eq!(refusal.code, 11);
    let log = server.stop().stderr;
    assert!(log.contains("instance created"), "{log}");
    assert!(log.contains(text(&made, "instance_id")), "{log}");
}

#[test]
fn the_door_is_its_owners_and_goes_with_the_server() {
    let (place, server) = served();
    let door = place.path(DOOR);
    assert_eq!(mode(&door), 0o600);
    assert_eq!(server.stop().code, 0);
    assert!(!door.exists());
    // A command leaves nothing behind either.
    assert_eq!(json(&place, &["machine", "list"])["total_count"], 0);
    let sockets = std::fs::read_dir(place.path("data"))
        .expect("a folder")
        .filter(|entry| {
            let kind = entry.as_ref().expect("an entry").file_type();
            kind.expect("a type").is_socket()
        });
    assert_eq!(sockets.count(), 0);
}

#[test]
fn another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (place, server) = served();
    let list = |place: &Place| {
        let mut command = place.command(&["machine", "list", "--data", "data"]);
        let output = command.uid(65_534).gid(65_534).output().expect("starts");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    set_mode(&place.path(""), 0o755);
    set_mode(&place.path("data"), 0o755);
    let (code, said) = list(&place);
    assert_eq!(code, Some(9), "{said}");
    assert!(
        said.contains("only the user that runs the authority"),
        "{said}"
    );
    // Even if the mode of the file is changed, the door checks the user.
    set_mode(&place.path(DOOR), 0o666);
    let (code, said) = list(&place);
    assert_eq!(code, Some(14), "{said}");
    assert_eq!(json(&place, &["machine", "list"])["total_count"], 0);
    let log = server.stop().stderr;
    assert!(
        log.contains("the operator's door refused a connection"),
        "{log}"
    );
    assert!(log.contains("65534"), "{log}");
}

#[test]
fn a_door_that_a_crash_left_is_no_obstacle() {
    let (place, server) = served();
    json(&place, &["machine", "create", "before"]);
    // As `kill -9` does.
    drop(server);
    assert!(place.path(DOOR).exists());
    assert_eq!(json(&place, &["machine", "list"])["total_count"], 1);
    let server = place.start(&["serve", "--data", "data"]);
    assert_eq!(json(&place, &["machine", "list"])["total_count"], 1);
    assert_eq!(mode(&place.path(DOOR)), 0o600);
    assert_eq!(server.stop().code, 0);
}

#[test]
fn a_folder_with_a_long_path_has_a_door_too() {
    let place = Place::new();
    let data = place.path(&"long".repeat(40));
    let data = data.to_str().expect("UTF-8");
    assert_eq!(place.run(&["init", "--data", data]).code, 0);
    let create = |name| place.run(&["machine", "create", name, "--data", data]);
    assert_eq!(create("in place").code, 0);
    let server = place.start(&["serve", "--data", data]);
    assert_eq!(create("while it runs").code, 0);
    assert_eq!(mode(&Path::new(data).join("operator.sock")), 0o600);
    assert_eq!(server.stop().code, 0);
    let list = place.run(&["machine", "list", "--data", data, "--json"]);
    assert_eq!(list.json()["total_count"], 2);
}

#[test]
fn commands_at_the_same_time_on_a_closed_folder_all_succeed() {
    let (place, _) = Place::with_authority();
    let names = ["a", "b", "c", "d"];
    let commands = names.map(|name| place.spawn(&["machine", "create", name, "--data", "data"]));
    for command in commands {
        let output = command.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
    assert_eq!(json(&place, &["machine", "list"])["total_count"], 4);
    assert_eq!(
        json(&place, &["audit", "verify"])["first_broken"],
        Value::Null
    );
}

#[test]
fn headers_of_the_door_mean_nothing_on_the_network() {
    let (place, server) = served();
    json(&place, &["machine", "create", "sender"]);
    let request = "GET /v1/countersign/instances HTTP/1.1\r\nhost: a\r\ncountersign-instance: ins_2GIoQhbUpy0hX7B2cVkuTMinXoD\r\nconnection: close\r\n\r\n";
    let address = format!("127.0.0.1:{}", server.port());
    let stream = TcpStream::connect(address).expect("listens");
    let answer = exchange(stream, request);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn a_credential_at_the_door_is_refused() {
    let (place, _server) = served();
    for path in ["instances", "whoami", "instance", "changes"] {
        let request = format!(
            "GET /v1/countersign/{path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer sk_test_x\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(connect(&place), &request);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        assert!(answer.contains("takes no credential"), "{answer}");
    }
}

#[test]
fn the_door_has_the_limits_of_the_network() {
    let (place, _server) = served();
    let long = "x".repeat(70 * 1024);
    let create = format!(
        "POST /v1/countersign/instances HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{{\"name\":\"{long}\"}}",
        long.len() + 11
    );
    let answer = exchange(connect(&place), &create);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let list = format!(
        "GET /v1/countersign/instances HTTP/1.1\r\nhost: a\r\nx-long: {}\r\nconnection: close\r\n\r\n",
        "x".repeat(33 * 1024)
    );
    let answer = exchange(connect(&place), &list);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(json(&place, &["instance", "list"])["total_count"], 1);
}

#[test]
fn a_request_at_the_door_is_answered_while_the_server_stops() {
    let (place, server) = served();
    let mut stream = connect(&place);
    let head = "POST /v1/countersign/instances HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 15\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut goes_on = [0; 25];
    stream.read_exact(&mut goes_on).expect("answered");
    assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let door = place.path(DOOR);
    let client = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(10);
        while door.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(UnixStream::connect(&door).is_err());
        exchange(stream, r#"{"name":"last"}"#)
    });
    assert_eq!(server.stop().code, 0);
    let answer = client.join().expect("answered");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(json(&place, &["instance", "list"])["total_count"], 2);
}

#[test]
fn a_link_in_place_of_the_door_is_not_followed() {
    let (place, _) = Place::with_authority();
    let elsewhere = place.path("elsewhere.sock");
    let decoy = UnixListener::bind(&elsewhere).expect("bound");
    decoy.set_nonblocking(true).expect("set");
    set_mode(&elsewhere, 0o777);
    let door = place.path(DOOR);
    std::os::unix::fs::symlink(&elsewhere, &door).expect("linked");
    assert_eq!(json(&place, &["machine", "list"])["total_count"], 0);
    assert_eq!(
        decoy.accept().map(drop).map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock)
    );
    let server = place.start(&["serve", "--data", "data"]);
    assert_eq!(mode(&door), 0o600);
    assert_eq!(mode(&elsewhere), 0o777);
    assert_eq!(json(&place, &["machine", "list"])["total_count"], 0);
    assert_eq!(server.stop().code, 0);
}

#[test]
fn a_door_of_another_user_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (place, _server) = served();
    std::os::unix::fs::chown(place.path(DOOR), Some(65_534), None).expect("changed");
    let refusal = place.run(&["machine", "list", "--data", "data"]).refusal();
    assert!(
        refusal.starts_with("9\nerror: data/operator.sock belongs to uid 65534"),
        "{refusal}"
    );
}

#[test]
fn a_second_server_leaves_the_door_of_the_first_alone() {
    let (place, server) = served();
    let found = || {
        let metadata = std::fs::symlink_metadata(place.path(DOOR)).expect("there");
        metadata.ino()
    };
    let before = found();
    let second = ["serve", "--data", "data", "--listen", "127.0.0.1:0"];
    assert_eq!(place.run(&second).code, 4);
    assert_eq!(found(), before);
    assert_eq!(json(&place, &["machine", "list"])["total_count"], 0);
    assert_eq!(server.stop().code, 0);
}

fn connect(place: &Place) -> UnixStream {
    UnixStream::connect(place.path(DOOR)).expect("listens")
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    // A server that refuses early may have closed the connection.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}
