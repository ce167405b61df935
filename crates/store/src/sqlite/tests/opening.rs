//! What `open` says to folders that it does not like.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::jobs::Write;
use super::super::{SqliteStore, schema};
use super::{create, world_in};
use crate::conformance::{data_keys, some_change};
use crate::{OpenError, SealedBytes, Store, StoreOptions};
use countersign_protocol::settings::InstanceSettings;

fn open(folder: &Path) -> OpenError {
    SqliteStore::open(folder, StoreOptions::default()).expect_err("it must not open")
}

fn database(folder: &TempDir) -> PathBuf {
    folder.path().join("countersign.db")
}

/// A folder with a store that was closed.
fn closed() -> TempDir {
    let folder = TempDir::new().unwrap();
    drop(create(folder.path(), StoreOptions::default()));
    folder
}

#[test]
fn a_folder_without_a_database_is_missing() {
    let folder = TempDir::new().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("no folder")] {
        let error = open(&path);
        assert!(matches!(error, OpenError::Missing(_)), "{error:?}");
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "looking must leave no trace"
    );
}

#[test]
fn a_half_made_database_is_missing_and_can_be_completed() {
    let folder = TempDir::new().unwrap();
    fs::write(database(&folder), b"").unwrap();
    fs::set_permissions(database(&folder), fs::Permissions::from_mode(0o600)).unwrap();
    let error = open(folder.path());
    assert!(matches!(error, OpenError::Missing(_)), "{error:?}");
    drop(create(folder.path(), StoreOptions::default()));
    SqliteStore::open(folder.path(), StoreOptions::default()).unwrap();
}

#[test]
fn files_are_private() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("data");
    let store = create(&folder, StoreOptions::default());
    assert_eq!(
        fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 4);
    for file in files {
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            file.path()
        );
    }
    drop(store);
}

#[test]
fn a_folder_is_used_by_one_store_at_a_time() {
    let folder = TempDir::new().unwrap();
    let store = create(folder.path(), StoreOptions::default());
    let error = open(folder.path());
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
    let error = SqliteStore::create(folder.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
    drop(store);
    SqliteStore::open(folder.path(), StoreOptions::default()).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_foreign() {
    let folder = closed();
    fs::write(
        database(&folder),
        b"notes to myself, rather long ones".repeat(100),
    )
    .unwrap();
    let error = open(folder.path());
    assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
    fs::write(database(&folder), b"short").unwrap();
    let error = open(folder.path());
    assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
}

#[test]
fn another_programs_database_is_foreign_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let other = rusqlite::Connection::open(database(&folder)).unwrap();
    other
        .execute_batch("CREATE TABLE notes (text TEXT)")
        .unwrap();
    drop(other);
    fs::set_permissions(database(&folder), fs::Permissions::from_mode(0o600)).unwrap();
    let before = fs::read(database(&folder)).unwrap();
    for error in [
        open(folder.path()),
        SqliteStore::create(folder.path(), StoreOptions::default()).unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
    }
    assert_eq!(fs::read(database(&folder)).unwrap(), before);
}

#[test]
fn a_database_of_a_later_version_is_refused_and_left_alone() {
    let folder = closed();
    let later = rusqlite::Connection::open(database(&folder)).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    drop(later);
    let before = fs::read(database(&folder)).unwrap();
    let error = open(folder.path());
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 99,
                known: schema::NEWEST
            }
        ),
        "{error:?}"
    );
    assert_eq!(fs::read(database(&folder)).unwrap(), before);
}

#[test]
fn a_database_of_an_unreleased_build_is_refused_and_left_alone() {
    let folder = closed();
    let earlier = rusqlite::Connection::open(database(&folder)).unwrap();
    earlier.pragma_update(None, "user_version", 1).unwrap();
    drop(earlier);
    let before = fs::read(database(&folder)).unwrap();
    let error = open(folder.path());
    assert!(matches!(error, OpenError::Older(_)), "{error:?}");
    assert_eq!(fs::read(database(&folder)).unwrap(), before);
}

#[test]
fn a_damaged_database_is_refused() {
    let folder = closed();
    let whole = fs::read(database(&folder)).unwrap();
    // The first page, where the schema begins, behind its header; then all other pages; then a file that was cut off.
    let mut broken_schema = whole.clone();
    broken_schema[100..4096].fill(0xa5);
    let mut broken_pages = whole.clone();
    broken_pages[4096..].fill(0xa5);
    let cut_off = whole[..whole.len() / 2].to_vec();
    for content in [broken_schema, broken_pages, cut_off] {
        fs::write(database(&folder), content).unwrap();
        let error = open(folder.path());
        assert!(matches!(error, OpenError::Damaged(_)), "{error:?}");
    }
    fs::write(database(&folder), whole).unwrap();
    SqliteStore::open(folder.path(), StoreOptions::default()).unwrap();
}

#[test]
fn a_database_that_others_can_read_is_refused() {
    let folder = closed();
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(database(&folder), fs::Permissions::from_mode(mode)).unwrap();
        let error = open(folder.path());
        assert!(matches!(&error, OpenError::Loose(_)), "{error:?}");
    }
}

/// A copy of a folder as a crash leaves it, and what its files hold.
fn crashed(folder: &Path) -> (TempDir, BTreeMap<OsString, Vec<u8>>) {
    let copy = TempDir::new().unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let files = contents(copy.path());
    (copy, files)
}

fn contents(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let read = |file: fs::DirEntry| (file.file_name(), fs::read(file.path()).unwrap());
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| read(file.unwrap())).collect()
}

#[tokio::test]
async fn reading_the_data_keys_changes_no_file() {
    let folder = TempDir::new().unwrap();
    let store = create(folder.path(), StoreOptions::default());
    store.initialize(data_keys(), some_change()).await.unwrap();
    let (copy, before) = crashed(folder.path());
    assert!(before[&OsString::from("countersign.db-wal")].len() > 4096);
    let keys = SqliteStore::read_data_keys(copy.path()).unwrap();
    assert_eq!(keys.len(), 3, "they are in the log only");
    assert!(contents(copy.path()) == before);
    // Without a log, too.
    drop(store);
    let before = contents(folder.path());
    assert_eq!(SqliteStore::read_data_keys(folder.path()).unwrap().len(), 3);
    assert!(contents(folder.path()) == before);
    SqliteStore::open(copy.path(), StoreOptions::default()).unwrap();
}

#[tokio::test]
async fn erased_secrets_are_gone_from_all_files() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_owned();
    let (_store, world) = world_in(folder, StoreOptions::default()).await;
    let instance = world.instance().await;
    let new = world.new_machine(instance, "a");
    let sealed_key = new.key.sealed.clone().unwrap();
    let machine = world.insert(new).await;
    let token = world.new_pooled(&machine, 1, 0);
    let sealed_token = token.pool.clone().unwrap().sealed;
    world.issue(token).await;
    let is_found = |needle: &SealedBytes| {
        let holds = |file: &Vec<u8>| file.windows(needle.0.len()).any(|part| part == needle.0);
        contents(&path).values().any(holds)
    };
    assert!(is_found(&sealed_key) && is_found(&sealed_token));
    let settings = InstanceSettings {
        secret_reveal: false,
        token_pooling: false,
        ..InstanceSettings::default()
    };
    world.set(instance, settings).await;
    // When the next operation is answered, the writer is done with what it does after the one before.
    world.machine(instance, "b").await;
    assert!(!is_found(&sealed_key));
    assert!(!is_found(&sealed_token));
}

#[tokio::test]
async fn a_long_log_is_moved_to_the_database_whenever_it_was_emptied() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_owned();
    let (store, world) = world_in(folder, StoreOptions::default()).await;
    let instance = world.instance().await;
    // Three commits each time, so that the log is emptied after every number of commits.
    for _ in 0..32 {
        for secret_reveal in [false, true, true] {
            let settings = InstanceSettings {
                secret_reveal,
                ..InstanceSettings::default()
            };
            world.set(instance, settings).await;
        }
    }
    for _ in 0..40 {
        let grow = |write: &mut Write<'_>| {
            write.execute("UPDATE instances SET name = hex(randomblob(1000000))", [])?;
            Ok(())
        };
        store.writer.write_single(grow).await.unwrap();
    }
    // When the next operation is answered, the writer is done with what it does after the one before.
    world.machine(instance, "a").await;
    let database = fs::metadata(path.join("countersign.db")).unwrap();
    assert!(database.len() > 1_000_000);
}

#[test]
fn closing_leaves_everything_in_one_file() {
    let folder = closed();
    let log = folder.path().join("countersign.db-wal");
    assert!(!log.exists() || fs::metadata(log).unwrap().len() == 0);
}
