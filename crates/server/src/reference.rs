//! Keeps the generated pages of `docs/reference` up to date: a test compares each, and writes it where
//! `UPDATE_REFERENCE=1` is set.

use std::fs;
use std::path::Path;

/// Compares `docs/reference/{name}` with what the code says, or writes it.
fn compare(name: &str, generated: &str) {
    #[expect(
        clippy::disallowed_methods,
        reason = "no setting of the product: it tells a test to write instead of compare"
    )]
    let is_update = std::env::var_os("UPDATE_REFERENCE").is_some_and(|value| value == "1");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/reference")
        .join(name);
    if is_update {
        fs::create_dir_all(path.parent().expect("it has a folder"))
            .expect("the folder can be made");
        fs::write(&path, generated).expect("the page can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let hint = "run `UPDATE_REFERENCE=1 cargo test -p countersign-server reference`";
    assert!(
        written == generated,
        "docs/reference/{name} is not what the code says; {hint}"
    );
}

#[test]
fn the_openapi_document_is_up_to_date() {
    compare("openapi.json", &crate::openapi::pretty(crate::route::ROWS));
}

#[test]
fn the_list_of_errors_is_up_to_date() {
    compare("errors.md", &countersign_protocol::error::error_reference());
}
