//! Checks which crate may use which, and how long a file may be.
//!
//! The allowed edges are those in ARCHITECTURE.md. A new edge or a new crate needs a record in `docs/adr/`. Where the
//! compiler cannot enforce a boundary, as around the store (`docs/adr/0020-store-boundary.md`), a test reads the
//! sources.

#[path = "architecture/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use sources::{code, is_in, is_word, names_behind, names_of_store, public_items, words};

/// Each crate of the workspace and the others that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("countersign-protocol", &[]),
    ("countersign-store", &["countersign-protocol"]),
    (
        "countersign-authority",
        &["countersign-protocol", "countersign-store"],
    ),
    (
        "countersign-server",
        &["countersign-protocol", "countersign-authority"],
    ),
    ("countersign-client", &["countersign-protocol"]),
    (
        "countersign-receiver",
        &["countersign-protocol", "countersign-client"],
    ),
    (
        EXECUTABLE,
        &[
            "countersign-protocol",
            "countersign-store",
            "countersign-authority",
            "countersign-server",
            "countersign-client",
        ],
    ),
    // The examples use what their readers would. Nothing uses them but the demo, which runs both.
    (
        "jobtracker",
        &["countersign-client", "countersign-receiver"],
    ),
    (
        "console-example",
        &[
            "countersign-protocol",
            "countersign-client",
            "countersign-receiver",
        ],
    ),
    (
        "demo",
        &[
            "countersign-protocol",
            "countersign-client",
            "countersign-receiver",
            "jobtracker",
            "console-example",
        ],
    ),
];
/// The executable, the only crate that chooses a store.
const EXECUTABLE: &str = "countersign";
/// Measures the product from outside and belongs to no layer.
const EXEMPT: &str = "countersign-bench";
/// All that the executable names of the store. None of them is an operation.
const CHOICE: &[&str] = &[
    "StoreChoice",
    "StoreOptions",
    "OpenStore",
    "OpenError",
    "Presence",
];
/// The one function of the authority that shows another type of the store: a master key is tried on data keys that were read
/// while the store was closed, so there is no `OpenStore` yet. The executable hands them on and looks at nothing in them.
const SHOWS_DATA_KEYS: (&str, &str) = ("fn try_master_key", "DataKey");
/// The longest file, its tests aside.
const MAX_LINES: usize = 500;

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let mut wrong = Vec::new();
    for (name, uses) in edges() {
        if name == EXEMPT {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!(
                "{name} is a new crate, which needs an ADR and a row here"
            ));
            continue;
        };
        for used in uses.iter().filter(|used| !allowed.contains(&used.as_str())) {
            wrong.push(format!("{name} must not use {used}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nothing_uses_the_executable() {
    let users: Vec<_> = edges()
        .into_iter()
        .filter(|(_, uses)| uses.contains(EXECUTABLE))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(users, Vec::<String>::new());
}

#[test]
fn the_rust_of_the_readme_stands_in_the_guides_where_it_is_compiled() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a document");
    let guides = ["senders", "receivers"].map(|name| read(&format!("docs/guide/{name}.md")));
    let readme = read("README.md");
    let code: Vec<_> = readme
        .split("```rust\n")
        .skip(1)
        .flat_map(|rest| rest.split("```").next().unwrap_or_default().lines())
        .collect();
    assert!(code.len() > 3, "the code was not found");
    for line in code {
        assert!(guides.iter().any(|guide| guide.contains(line)), "{line}");
    }
}

#[test]
fn files_stay_under_500_lines_without_their_tests() {
    let mut files = Vec::new();
    for folder in ["crates", "examples"] {
        for krate in children(&root().join(folder)) {
            sources(&krate.join("src"), &mut files);
        }
    }
    assert!(files.len() > 20, "the sources were not found");
    let mut long: Vec<_> = files
        .iter()
        .map(|path| (lines_without_tests(path), path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, path)| (lines, path.strip_prefix(root()).unwrap_or(path)))
        .map(|(lines, path)| format!("{} has {lines} lines", path.display()))
        .collect();
    long.sort();
    assert!(
        long.is_empty(),
        "split by meaning what exceeds {MAX_LINES} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn the_executable_and_the_server_call_no_operation_of_the_store() {
    let mut wrong = Vec::new();
    for (krate, allowed) in [("cli", CHOICE), ("server", &[])] {
        let files = rust_files(&format!("crates/{krate}/src"));
        assert!(files.len() > 10, "the sources of {krate} were not found");
        for path in files {
            let code = code(&path);
            for name in names_of_store(&code) {
                if !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{}: {name}", shown(&path)));
                }
            }
            if words(&code, "into_store").next().is_some() {
                wrong.push(format!("{}: into_store", shown(&path)));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "only the authority uses the store:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_authority_shows_no_type_of_the_store() {
    let mut wrong = Vec::new();
    let files = rust_files("crates/authority/src");
    assert!(
        files.len() > 20,
        "the sources of the authority were not found"
    );
    let mut has_data_keys = false;
    for path in files {
        let code = code(&path);
        let imported: Vec<String> = words(&code, "countersign_store")
            .filter(|(before, _)| before.trim_end().ends_with("use"))
            .flat_map(|(_, behind)| names_behind(behind))
            .collect();
        // One that stands for several or for another one would hide what an item shows.
        let hidden = imported.iter().filter(|name| !name.chars().all(is_word));
        wrong.extend(hidden.map(|name| format!("{}: use of {name}", shown(&path))));
        for item in public_items(&code) {
            if item.starts_with("pub use") && item.contains("countersign_store") {
                wrong.push(format!("{}: {item}", shown(&path)));
            }
            let mut shows = names_of_store(item);
            shows.extend(imported.iter().filter(|name| is_in(item, name)).cloned());
            shows.retain(|name| !CHOICE.contains(&name.as_str()));
            let (function, data_key) = SHOWS_DATA_KEYS;
            if item.contains(function) && shows == [data_key] {
                has_data_keys = true;
                continue;
            }
            if !shows.is_empty() {
                wrong.push(format!("{}: {} in {item}", shown(&path), shows.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(has_data_keys, "the exception is no longer needed");
}

#[test]
fn nothing_outside_the_back_end_uses_rusqlite() {
    let mut wrong = Vec::new();
    for krate in children(&root().join("crates")) {
        if krate.ends_with("store") {
            continue;
        }
        let mut files = vec![krate.join("Cargo.toml")];
        all_files(&krate, &mut files);
        for path in files {
            // This file names it, too.
            let text = fs::read_to_string(&path).expect("the file can be read");
            if text.contains("rusqlite") && !path.ends_with("cli/tests/architecture.rs") {
                wrong.push(shown(&path));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "a database is the business of its back end in crates/store alone:\n{}",
        wrong.join("\n")
    );
}

/// Each package of the workspace and the workspace's packages that it uses, other than for its tests.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--manifest-path",
        ])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .expect("a list of packages");
    let names: BTreeSet<&str> = packages.iter().map(name_of).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .expect("a list of dependencies");
            let uses = dependencies
                .iter()
                .filter(|dependency| dependency["kind"] != "dev")
                .map(name_of)
                .filter(|name| names.contains(name))
                .map(str::to_owned)
                .collect();
            (name_of(package).to_owned(), uses)
        })
        .collect()
}

fn name_of(value: &Value) -> &str {
    value["name"].as_str().expect("a name")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

/// The Rust files under `folder`, those that hold nothing but tests aside.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in children(folder) {
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if matches!(name, "tests" | "testing" | "conformance") {
            continue;
        }
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// All Rust files under a folder of the repository.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    all_files(&root().join(folder), &mut files);
    files
}

fn all_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in children(folder) {
        if path.is_dir() {
            all_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The place of a file within the repository.
fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// How many lines stand before the module of tests at the foot of a file.
fn lines_without_tests(path: &Path) -> usize {
    let text = fs::read_to_string(path).expect("the file can be read");
    let lines: Vec<&str> = text.lines().collect();
    let foot = lines
        .windows(2)
        .position(|pair| pair == ["#[cfg(test)]", "mod tests {"]);
    foot.unwrap_or(lines.len())
}
