//! The demo, whole.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::Place;

#[test]
fn every_step_of_the_demo_holds() {
    let ended = Place::new().run(&["demo"]);
    let account = &ended.stdout;
    assert_eq!(ended.code, 0, "{account}\n{}", ended.stderr);
    assert_eq!(account.matches('✓').count(), 17, "{account}");
    assert!(account.contains("All 17 steps held."), "{account}");
    // Colours are for terminals.
    assert!(!account.contains('\u{1b}'), "{account}");
    assert_eq!(ended.stderr, "");
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
        let mut place = Place::new();
        let folder = tempfile::tempdir().expect("a folder");
        place.set("TMPDIR", &folder.path().to_string_lossy());
        // Settings of another authority are none of the demo's.
        place.set("COUNTERSIGN_TLS_CERTIFICATE", "/nowhere");
        let mut demo = place.command(&["demo"]);
        let mut demo = demo.stdout(Stdio::piped()).spawn().expect("started");
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
