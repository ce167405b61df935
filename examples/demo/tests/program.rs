//! The demo from outside: the whole of it, how it ends when it is stopped, and where it finds the executable.

#![expect(
    clippy::disallowed_methods,
    reason = "a test of processes looks at the real clock and environment"
)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

/// The executable that the demo is to run: COUNTERSIGN_BIN, or the file beside the demo.
fn executable() -> PathBuf {
    let beside = || Path::new(DEMO).with_file_name("countersign");
    let executable = std::env::var_os("COUNTERSIGN_BIN").map_or_else(beside, PathBuf::from);
    assert!(
        executable.exists(),
        "{} is missing; run: cargo build --package countersign",
        executable.display()
    );
    executable
}

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

/// The demo without any environment.
fn demo() -> Command {
    let mut demo = Command::new(DEMO);
    demo.env_clear().stdin(Stdio::null());
    demo
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn every_step_of_the_demo_holds() {
    let ended = demo().env("COUNTERSIGN_BIN", executable()).output();
    let Output {
        status,
        stdout,
        stderr,
    } = ended.expect("the demo starts");
    let (account, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{account}\n{stderr}");
    assert_eq!(account.matches('✓').count(), 17, "{account}");
    assert!(account.contains("All 17 steps held."), "{account}");
    // Colors are for terminals.
    assert!(!account.contains('\u{1b}'), "{account}");
    assert_eq!(stderr, "");
}

/// Whether a process was started with something of this folder.
fn is_served(folder: &Path) -> bool {
    let folder = folder.to_string_lossy();
    let processes = std::fs::read_dir("/proc").expect("processes");
    processes.flatten().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("serve") && line.contains(&*folder)
    })
}

#[test]
fn a_demo_that_is_stopped_leaves_nothing_behind() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::KILL] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut demo = demo()
            .env("COUNTERSIGN_BIN", executable())
            .env("TMPDIR", folder.path())
            // Settings of another authority are none of the demo's.
            .env("COUNTERSIGN_TLS_CERTIFICATE", "/nowhere")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let out = BufReader::new(demo.stdout.take().expect("piped"));
        let is_first_step = |line: &String| line.contains('✓');
        let mut lines = out.lines().map(|line| line.expect("text"));
        assert!(lines.any(|line| is_first_step(&line)), "no step held");
        assert!(is_served(folder.path()), "nothing would be proven");
        let pid = rustix::process::Pid::from_child(&demo);
        rustix::process::kill_process(pid, signal).expect("it runs");
        assert!(!demo.wait().expect("ended").success());
        let until = Instant::now() + Duration::from_secs(10);
        while is_served(folder.path()) {
            assert!(Instant::now() < until, "{signal:?} leaves the authority");
            std::thread::sleep(Duration::from_millis(20));
        }
        if signal != Signal::KILL {
            let left = std::fs::read_dir(folder.path()).expect("a folder").count();
            assert_eq!(left, 0, "{signal:?} leaves the folder");
        }
    }
}

/// Runs the demo as cargo would, with a script in the place of cargo. The script notes its arguments in `arguments`.
fn run_by_cargo(folder: &Path, script: &str) -> Output {
    let cargo = folder.join("cargo");
    let script = format!(
        "#!/bin/sh\necho \"$@\" > '{}/arguments'\n{script}\n",
        folder.display()
    );
    std::fs::write(&cargo, script).expect("written");
    std::fs::set_permissions(&cargo, PermissionsExt::from_mode(0o755)).expect("set");
    demo().env("CARGO", &cargo).output().expect("it starts")
}

#[test]
fn a_demo_that_cargo_runs_takes_the_executable_that_cargo_builds() {
    let folder = tempfile::tempdir().expect("a folder");
    // It serves nothing, so the first step of each chapter fails.
    let built = r#"echo '{"reason":"compiler-artifact","target":{"name":"countersign"},"executable":"/bin/false"}'"#;
    let ended = run_by_cargo(folder.path(), built);
    assert_eq!(ended.status.code(), Some(1));
    let account = text(&ended.stdout);
    assert_eq!(account.matches("init failed").count(), 2, "{account}");
    assert_eq!(
        text(&ended.stderr),
        "error: not every step held (0 did)\n\
         hint: the account above has the reason; this should not happen, please report it\n"
    );
    let arguments = std::fs::read_to_string(folder.path().join("arguments")).expect("noted");
    assert!(
        arguments.starts_with("build --package countersign --profile "),
        "{arguments}"
    );
}

#[test]
fn a_demo_without_an_executable_says_how_to_get_one() {
    let hint = "hint: build it with `cargo build --release -p countersign`, or name it in COUNTERSIGN_BIN\n";
    let folder = tempfile::tempdir().expect("a folder");
    let failed = run_by_cargo(folder.path(), "echo 'no compiler' >&2; exit 101");
    assert_eq!(
        text(&failed.stderr),
        format!("no compiler\nerror: the build of countersign failed (exit status: 101)\n{hint}")
    );
    let missing = demo()
        .env("COUNTERSIGN_BIN", "/nowhere/countersign")
        .output();
    let missing = missing.expect("it starts");
    assert_eq!(
        text(&missing.stderr),
        format!(
            "error: the executable /nowhere/countersign is missing: No such file or directory (os error 2)\n{hint}"
        )
    );
    for ended in [failed, missing] {
        assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(1), ""));
    }
}
