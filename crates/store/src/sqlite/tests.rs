//! SQLite under the conformance suite, and what only SQLite does.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;

use super::{SqliteOptions, SqliteStore};
use crate::Store;
use crate::conformance::{BackEnd, World};

/// A store in a folder that goes away with it.
struct InFolder {
    store: Option<Arc<SqliteStore>>,
    folder: TempDir,
    token_index_bytes: u64,
}

impl InFolder {
    fn options(&self) -> SqliteOptions {
        SqliteOptions {
            token_index_bytes: self.token_index_bytes,
            ..SqliteOptions::default()
        }
    }
}

#[async_trait]
impl BackEnd for InFolder {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone().expect("it is open")
    }

    async fn reopen(&mut self) {
        let store = self.store.take().expect("it is open");
        Arc::try_unwrap(store).expect("nobody else holds the store");
        self.store = Some(Arc::new(
            SqliteStore::open(self.folder.path(), self.options()).expect("it opens again"),
        ));
    }
}

fn back_end(token_index_bytes: u64) -> Box<dyn BackEnd> {
    let folder = TempDir::new().expect("a folder");
    let mut in_folder = InFolder {
        store: None,
        folder,
        token_index_bytes,
    };
    in_folder.store = Some(Arc::new(create(
        in_folder.folder.path(),
        in_folder.options(),
    )));
    Box::new(in_folder)
}

/// A world on a store that the test can reach, too.
async fn world_in(folder: TempDir, options: SqliteOptions) -> (Arc<SqliteStore>, World) {
    let store = Arc::new(create(folder.path(), options));
    let back_end = InFolder {
        store: Some(Arc::clone(&store)),
        folder,
        token_index_bytes: 1 << 20,
    };
    (store, World::new(Box::new(back_end)).await)
}

fn create(folder: &Path, options: SqliteOptions) -> SqliteStore {
    SqliteStore::create(folder, options).expect("a new store")
}

crate::mount_conformance!(sqlite, async { super::super::back_end(64 << 20) });
// The same with an index that holds next to nothing.
crate::mount_conformance!(sqlite_without_room_for_an_index, async {
    super::super::back_end(300)
});

mod opening {
    //! What `open` says to folders that it does not like.

    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use tempfile::TempDir;

    use super::super::jobs::Write;
    use super::super::{OpenError, SqliteOptions, SqliteStore, schema};
    use super::{create, world_in};
    use crate::conformance::data_keys;
    use crate::{InstanceSettings, SealedBytes, Store};

    fn open(folder: &Path) -> OpenError {
        SqliteStore::open(folder, SqliteOptions::default()).expect_err("it must not open")
    }

    fn database(folder: &TempDir) -> PathBuf {
        folder.path().join("countersign.db")
    }

    /// A folder with a store that was closed.
    fn closed() -> TempDir {
        let folder = TempDir::new().unwrap();
        drop(create(folder.path(), SqliteOptions::default()));
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
        drop(create(folder.path(), SqliteOptions::default()));
        SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
    }

    #[test]
    fn files_are_private() {
        let parent = TempDir::new().unwrap();
        let folder = parent.path().join("data");
        let store = create(&folder, SqliteOptions::default());
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
        let store = create(folder.path(), SqliteOptions::default());
        let error = open(folder.path());
        assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
        let error = SqliteStore::create(folder.path(), SqliteOptions::default()).unwrap_err();
        assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
        drop(store);
        SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
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
            SqliteStore::create(folder.path(), SqliteOptions::default()).unwrap_err(),
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
        SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
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
        let store = create(folder.path(), SqliteOptions::default());
        store.initialise(data_keys()).await.unwrap();
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
        SqliteStore::open(copy.path(), SqliteOptions::default()).unwrap();
    }

    #[tokio::test]
    async fn erased_secrets_are_gone_from_all_files() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_owned();
        let (_store, world) = world_in(folder, SqliteOptions::default()).await;
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
        let (store, world) = world_in(folder, SqliteOptions::default()).await;
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
}

#[tokio::test]
async fn a_reopened_store_fills_its_index_with_what_is_live() {
    let world = crate::conformance::World::new(back_end(1 << 20)).await;
    let instance = world.instance().await;
    let machine = world.machine(instance, "sender").await;
    let mut ids = Vec::new();
    for _ in 0..1200 {
        ids.push(world.token(&machine).await);
    }
    world.revoke(instance, ids[0]).await;
    let world = world.reopen().await;
    // The thread needs its time; the loop ends by the test runner's limit if it never gets there.
    while world.store.statistics().indexed_tokens < 1199 {
        tokio::task::yield_now().await;
    }
    let misses = world.store.statistics().index_misses;
    assert!(world.find(instance, ids[1199]).await.is_some());
    assert!(
        world
            .find(instance, ids[0])
            .await
            .is_some_and(|token| token.row.revoked.is_some())
    );
    // The machine and the revoked token were not there before.
    assert_eq!(world.store.statistics().index_misses, misses + 2);
}

mod settings {

    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::super::SqliteOptions;
    use super::super::jobs::Write;
    use super::world_in;
    use crate::InstanceSettings;

    #[tokio::test]
    async fn secrets_are_erased_where_a_switch_is_turned_off_and_not_again() {
        let (store, world) = world_in(TempDir::new().unwrap(), SqliteOptions::default()).await;
        let instance = world.instance().await;
        world.machine(instance, "a").await;
        let set = async |secret_reveal| {
            let settings = InstanceSettings {
                secret_reveal,
                ..InstanceSettings::default()
            };
            world.set(instance, settings).await;
        };
        let sealed = || {
            let count = "SELECT count(*) FROM machine_keys WHERE sealed IS NOT NULL";
            let read = |connection: &Connection| connection.query_row(count, [], |row| row.get(0));
            store.shared.readers.read::<i64>(read).unwrap()
        };
        assert_eq!(sealed(), 1);
        set(false).await;
        assert_eq!(sealed(), 0);
        let plant = |write: &mut Write<'_>| {
            write.execute("UPDATE machine_keys SET sealed = x'01'", [])?;
            Ok(())
        };
        store.writer.write_single(plant).await.unwrap();
        set(false).await;
        assert_eq!(sealed(), 1, "nobody looked again");
        set(true).await;
        set(false).await;
        assert_eq!(sealed(), 0);
    }
}

mod failing {
    //! What happens when the disk does not do as it should.

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::Sender;
    use std::sync::{Arc, Mutex};

    use tokio::task::JoinHandle;

    use super::super::jobs::Write;
    use super::super::rows::WriteError;
    use super::super::{SqliteOptions, SqliteStore};
    use super::world_in;
    use crate::conformance::{World, at, some_change};
    use crate::machines::MachineUpdate;
    use crate::tokens::{InsertToken, NewToken};
    use crate::{Store, StoreError};
    use tempfile::TempDir;

    async fn world(options: SqliteOptions) -> (Arc<SqliteStore>, World) {
        world_in(TempDir::new().unwrap(), options).await
    }

    /// Keeps the writer busy until something is sent, so that operations gather behind it.
    async fn hold(store: &Arc<SqliteStore>) -> (JoinHandle<()>, Sender<()>) {
        let (go, wait) = std::sync::mpsc::channel();
        let (started, has_started) = tokio::sync::oneshot::channel();
        let store = Arc::clone(store);
        let operation = move |_: &mut Write<'_>| {
            started.send(()).expect("the test waits for the writer");
            wait.recv().expect("the test lets the writer go");
            Ok(())
        };
        let holder =
            tokio::spawn(async move { store.writer.write_single(operation).await.unwrap() });
        // From here on no operation can join the batch of the one that holds the writer.
        has_started.await.expect("the writer runs");
        (holder, go)
    }

    /// Lets the database have so many more pages than it has.
    async fn set_room(store: &SqliteStore, pages: i64) {
        store
            .writer
            .write_single(move |write| {
                let used: i64 = write
                    .connection
                    .pragma_query_value(None, "page_count", |row| row.get(0))?;
                write.connection.pragma_update_and_check(
                    None,
                    "max_page_count",
                    used + pages,
                    |_| Ok(()),
                )?;
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_stops_writes_only_and_only_while_it_is_full() {
        let fatal = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fatal);
        let on_fatal = Box::new(move |_: &str| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let (store, world) = world(SqliteOptions {
            on_fatal,
            ..SqliteOptions::default()
        })
        .await;
        let instance = world.instance().await;
        let machine = world.machine(instance, "a").await;
        let first = world.token(&machine).await;
        set_room(&store, 3).await;
        let mut kept = vec![first];
        let refused = loop {
            let token = world.new_token(&machine);
            let id = token.id;
            match store.insert_token(token).await {
                Ok(_) => kept.push(id),
                Err(StoreError::Unavailable(text)) => {
                    assert!(text.contains("full"), "{text}");
                    break id;
                }
                Err(other) => panic!("{other:?}"),
            }
            assert!(kept.len() < 10_000, "the disk never became full");
        };
        // Reads go on, and nothing that was refused is there.
        assert!(world.find(instance, first).await.is_some());
        assert!(world.find(instance, refused).await.is_none());
        assert!(matches!(
            store.check().await,
            Ok(()) | Err(StoreError::Unavailable(_))
        ));
        let machine_refused = store
            .insert_machine(
                world.new_machine(instance, &"b".repeat(9000)),
                crate::conformance::some_change(instance),
            )
            .await;
        assert!(
            matches!(machine_refused, Err(StoreError::Unavailable(_))),
            "{machine_refused:?}"
        );
        // Room is back.
        set_room(&store, 1000).await;
        store.check().await.unwrap();
        let late = world.token(&machine).await;
        world.machine(instance, "b").await;
        kept.push(late);
        assert_eq!(world.changes(instance).await.len(), 3);
        assert_eq!(fatal.load(Ordering::Relaxed), 0);
        drop(store);
        let world = world.reopen().await;
        for id in kept {
            assert!(world.find(instance, id).await.is_some());
        }
        assert!(world.find(instance, refused).await.is_none());
    }

    #[tokio::test]
    async fn after_a_failed_write_nothing_is_written_any_more_and_reads_go_on() {
        let reasons = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&reasons);
        let on_fatal = Box::new(move |reason: &str| heard.lock().unwrap().push(reason.to_owned()));
        let (store, world) = world(SqliteOptions {
            on_fatal,
            ..SqliteOptions::default()
        })
        .await;
        let instance = world.instance().await;
        let machine = world.machine(instance, "a").await;
        let first = world.token(&machine).await;
        let failed = store
            .writer
            .write::<()>(|write| {
                write.execute("DELETE FROM tokens", [])?;
                let code = rusqlite::ffi::SQLITE_IOERR_FSYNC;
                Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None).into())
            })
            .await;
        assert!(
            matches!(failed, Err(StoreError::Unavailable(_))),
            "{failed:?}"
        );
        assert_eq!(reasons.lock().unwrap().len(), 1);
        let refused = store.insert_token(world.new_token(&machine)).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
        assert!(matches!(
            store.check().await,
            Err(StoreError::Unavailable(_))
        ));
        assert!(world.find(instance, first).await.is_some());
        assert_eq!(reasons.lock().unwrap().len(), 1, "it is told once");
    }

    #[tokio::test]
    async fn a_panic_in_the_writer_ends_the_store_and_leaves_nobody_waiting() {
        let fatal = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fatal);
        let on_fatal = Box::new(move |_: &str| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let (store, world) = world(SqliteOptions {
            on_fatal,
            ..SqliteOptions::default()
        })
        .await;
        let instance = world.instance().await;
        let panicked = store.writer.write::<()>(|_| panic!("on purpose")).await;
        assert!(
            matches!(panicked, Err(StoreError::Unavailable(_))),
            "{panicked:?}"
        );
        let refused = store
            .insert_machine(
                world.new_machine(instance, "a"),
                crate::conformance::some_change(instance),
            )
            .await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
        assert_eq!(fatal.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn one_failing_operation_does_not_take_its_batch_along() {
        let (store, world) = world(SqliteOptions::default()).await;
        let instance = world.instance().await;
        let machine = world.machine(instance, "a").await;
        // The first operation holds the writer until all others wait, so that they share a batch.
        let (holder, go) = hold(&store).await;
        let mut tasks = Vec::new();
        for number in 0..20 {
            let store = Arc::clone(&store);
            let token = world.new_token(&machine);
            tasks.push(tokio::spawn(async move {
                let id = token.id;
                if number % 4 == 0 {
                    let failed = store
                        .writer
                        .write::<()>(move |write| {
                            write.execute("UPDATE machines SET name = 'undone'", [])?;
                            Err(WriteError::Refused(StoreError::Conflict(
                                "on purpose".to_owned(),
                            )))
                        })
                        .await;
                    assert!(matches!(failed, Err(StoreError::Conflict(_))), "{failed:?}");
                    return None;
                }
                store.insert_token(token).await.unwrap();
                Some(id)
            }));
        }
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let before = store.statistics();
        go.send(()).unwrap();
        holder.await.unwrap();
        for task in tasks {
            if let Some(id) = task.await.unwrap() {
                assert!(world.find(instance, id).await.is_some());
            }
        }
        assert_eq!(
            store.statistics().commits,
            before.commits + 1,
            "they share a commit"
        );
        assert_eq!(world.current(&machine).await, machine);
        let world = {
            drop(store);
            world.reopen().await
        };
        assert_eq!(world.current(&machine).await, machine);
    }

    #[tokio::test]
    async fn a_token_is_refused_behind_a_change_in_the_same_batch() {
        let (store, world) = world(SqliteOptions::default()).await;
        let instance = world.instance().await;
        let new = world.new_machine(instance, "a");
        let digest = new.key.digest;
        let machine = world.insert(new).await;
        let key = store.machine_key_by_digest(&digest).await.unwrap();
        let token = || NewToken {
            key: key.as_ref().map(|key| key.number),
            ..world.new_token(&machine)
        };
        let issue = |token| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.insert_token(token).await.unwrap() })
        };
        let (rotated, new_key) = (Arc::clone(&store), world.machine_key());
        let (updated, id) = (Arc::clone(&store), machine.id);
        let rotation = async move {
            let change = some_change(instance);
            rotated
                .rotate_machine_key(instance, id, new_key, at(0), 5, at(0), change)
                .await
                .unwrap()
        };
        let update = async move {
            let update = MachineUpdate {
                default_token_ttl: Some(7),
                ..MachineUpdate::default()
            };
            updated
                .update_machine(instance, id, update, at(0), some_change(instance))
                .await
                .unwrap()
        };

        // The tasks run, and so their operations wait, in the order in which they are spawned.
        let (holder, go) = hold(&store).await;
        let before = store.statistics();
        let by_key = issue(token());
        let rotation = tokio::spawn(rotation);
        let by_gone_key = issue(token());
        let by_operator = issue(world.new_token(&machine));
        let update = tokio::spawn(update);
        let of_old_machine = issue(world.new_token(&machine));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        holder.await.unwrap();
        assert!(rotation.await.unwrap() && update.await.unwrap().is_some());
        assert!(matches!(by_key.await.unwrap(), InsertToken::Inserted));
        assert!(matches!(by_gone_key.await.unwrap(), InsertToken::KeyGone));
        assert!(matches!(by_operator.await.unwrap(), InsertToken::Inserted));
        assert!(matches!(
            of_old_machine.await.unwrap(),
            InsertToken::Changed
        ));
        assert_eq!(store.statistics().commits, before.commits + 1);
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_does_not_keep_the_others_waiting() {
        let (store, world) = world(SqliteOptions::default()).await;
        let instance = world.instance().await;
        let machine = world.machine(instance, "a").await;
        let (holder, go) = hold(&store).await;
        let mut tasks = Vec::new();
        for _ in 0..20 {
            let (store, token) = (Arc::clone(&store), world.new_token(&machine));
            tasks.push(tokio::spawn(async move {
                store.insert_token(token).await.unwrap()
            }));
        }
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        // The one whose answer carries the others' is among them.
        let given_up = tasks.split_off(12);
        given_up.iter().for_each(tokio::task::JoinHandle::abort);
        go.send(()).unwrap();
        holder.await.unwrap();
        for task in tasks {
            task.await.unwrap();
        }
    }
}

mod lists {
    //! Lists that nobody waits for.

    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::super::{SqliteOptions, SqliteStore};
    use super::create;
    use crate::StoreError;

    /// Half a minute of work.
    const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT max(i) FROM n";

    fn number(connection: &Connection, query: &str) -> rusqlite::Result<i64> {
        connection.query_row(query, [], |row| row.get(0))
    }

    /// Whether there is a place for a list, soon.
    async fn has_place(store: &SqliteStore) -> bool {
        let list = store.list(|connection, _| number(connection, "SELECT 1"));
        tokio::time::timeout(Duration::from_secs(7), list)
            .await
            .is_ok_and(|one| one.is_ok())
    }

    #[tokio::test]
    async fn a_list_that_is_given_up_stops_and_leaves_its_place_to_others() {
        let folder = TempDir::new().unwrap();
        let store = create(folder.path(), SqliteOptions::default());
        // More than there are places for lists.
        for _ in 0..10 {
            let endless = store.list(|connection, _| number(connection, ENDLESS));
            let given_up = tokio::time::timeout(Duration::from_millis(20), endless);
            assert!(given_up.await.is_err());
        }
        assert!(has_place(&store).await);
    }

    #[tokio::test]
    async fn a_list_ends_when_its_time_is_over() {
        let folder = TempDir::new().unwrap();
        let store = create(folder.path(), SqliteOptions::default());
        for _ in 0..10 {
            let ended = store
                .list_within(Duration::from_millis(20), |connection, _| {
                    number(connection, ENDLESS)
                })
                .await;
            assert!(matches!(ended, Err(StoreError::Busy(_))), "{ended:?}");
        }
        assert!(has_place(&store).await);
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn few_lists_wait_for_a_place_and_not_for_long() {
        let folder = TempDir::new().unwrap();
        let store = create(folder.path(), SqliteOptions::default());
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(store.shared.readers.list_permit().await.unwrap());
        }
        let mut waiting: Vec<_> = (0..32)
            .map(|_| Box::pin(store.list(|connection, _| number(connection, "SELECT 1"))))
            .collect();
        for list in &mut waiting {
            assert!(poll(list.as_mut()).is_pending());
        }
        // The next is turned away without waiting.
        let mut late = Box::pin(store.list(|connection, _| number(connection, "SELECT 1")));
        let late = poll(late.as_mut());
        assert!(
            matches!(late, Poll::Ready(Err(StoreError::Busy(_)))),
            "{late:?}"
        );
        // And so are those who wait, when a second is over.
        for list in waiting {
            let ended = list.await;
            assert!(
                matches!(ended, Err(StoreError::Busy("too many lists are read"))),
                "{ended:?}"
            );
        }
        drop(places);
        assert!(has_place(&store).await);
    }
}

mod room {
    //! Room for more tokens, which one makes for many.

    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use countersign_protocol::time::Timestamp;
    use tempfile::TempDir;
    use tokio::task::JoinHandle;

    use super::super::{SqliteOptions, SqliteStore};
    use super::{create, world_in};
    use crate::conformance::World;
    use crate::machines::MachineRow;
    use crate::tokens::{InsertToken, NewToken};
    use crate::{Result, Store, StoreError};

    const LIMIT: u64 = 3;

    /// A machine at its limit, with tokens that are over at 1000.
    async fn full() -> (Arc<SqliteStore>, World, Arc<MachineRow>) {
        let (store, world) = world_in(TempDir::new().unwrap(), SqliteOptions::default()).await;
        let instance = world.instance().await;
        let machine = world.machine(instance, "a").await;
        for _ in 0..LIMIT {
            world.issue(new(&world, &machine, 0, 1000)).await;
        }
        (store, world, machine)
    }

    fn new(world: &World, machine: &Arc<MachineRow>, now: i64, expires_at: i64) -> NewToken {
        NewToken {
            max_tokens: LIMIT,
            created_at: Timestamp::from_millis(now),
            expires_at: Some(Timestamp::from_millis(expires_at)),
            ..world.new_token(machine)
        }
    }

    type Inserting = JoinHandle<Result<InsertToken>>;

    /// A token that needs room, once so many hold on to the search for it.
    async fn insert(
        store: &Arc<SqliteStore>,
        world: &World,
        machine: &Arc<MachineRow>,
        searchers: usize,
    ) -> Inserting {
        let token = new(world, machine, 1000, 90_000);
        let inserting = {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.insert_token(token).await })
        };
        let are_there = || {
            let searches = store.searches.lock().unwrap();
            let mut searches = searches.values();
            searches.any(|search| Arc::strong_count(search) > searchers)
        };
        while !are_there() {
            tokio::task::yield_now().await;
        }
        inserting
    }

    #[test]
    fn who_looks_for_another_machine_is_not_taken_for_one_who_makes_room() {
        let folder = TempDir::new().unwrap();
        let store = create(folder.path(), SqliteOptions::default());
        let is_over = AtomicBool::new(false);
        let is_free = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    drop(store.search(1, LIMIT, Timestamp::EPOCH));
                }
            });
            let search = store.search(2, LIMIT, Timestamp::EPOCH);
            let is_free = (0..100_000).all(|_| search.try_lock().is_ok());
            is_over.store(true, Ordering::Relaxed);
            is_free
        });
        assert!(is_free);
    }

    #[tokio::test]
    async fn where_room_could_not_be_made_those_who_waited_learn_why_and_the_next_tries_again() {
        let (store, world, machine) = full().await;
        // While all places for lists are taken, nobody can look for what is over.
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(store.shared.readers.list_permit().await.unwrap());
        }
        let mut waiting = Vec::new();
        for searchers in 1..=5 {
            waiting.push(insert(&store, &world, &machine, searchers).await);
        }
        for inserting in waiting {
            let outcome = inserting.await.unwrap();
            assert!(matches!(outcome, Err(StoreError::Busy(_))), "{outcome:?}");
        }
        drop(places);
        world.issue(new(&world, &machine, 1000, 90_000)).await;
    }

    #[tokio::test]
    async fn where_the_maker_of_room_goes_away_the_next_who_waits_makes_it() {
        let (store, world, machine) = full().await;
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(store.shared.readers.list_permit().await.unwrap());
        }
        let first = insert(&store, &world, &machine, 1).await;
        let second = insert(&store, &world, &machine, 2).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        drop(places);
        let outcome = second.await.unwrap().unwrap();
        assert!(matches!(outcome, InsertToken::Inserted), "{outcome:?}");
    }

    #[tokio::test]
    async fn what_was_found_stands_for_one_who_began_a_moment_before() {
        let (store, world, machine) = full().await;
        let insert = async |now| {
            let token = new(&world, &machine, now, 90_000);
            store.insert_token(token).await.unwrap()
        };
        for _ in 0..LIMIT {
            assert!(matches!(insert(1000).await, InsertToken::Inserted));
        }
        let found = || {
            let searches = store.searches.lock().unwrap();
            format!("{searches:?}")
        };
        let before = found();
        assert!(before.contains("1000"), "{before}");
        assert!(matches!(insert(999).await, InsertToken::TooMany));
        assert_eq!(found(), before);
    }

    #[tokio::test]
    async fn dead_ones_make_room_for_all_who_wait() {
        let (store, world, machine) = full().await;
        // Of three that are over one is swept, so that there is room for one alone.
        let swept = store.sweep_tokens(None, 1, Timestamp::from_millis(2000));
        assert_eq!(swept.await.unwrap().deleted, 1);
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(store.shared.readers.list_permit().await.unwrap());
        }
        let mut waiting = Vec::new();
        for number in 1..=3 {
            waiting.push(insert(&store, &world, &machine, number).await);
        }
        drop(places);
        for one in waiting {
            let outcome = one.await.unwrap().unwrap();
            assert!(matches!(outcome, InsertToken::Inserted), "{outcome:?}");
        }
    }
}
