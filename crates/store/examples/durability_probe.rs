//! Writes to a store and says what was acknowledged, for a harness that cuts the power.
//!
//! `durability_probe --data DIR --synchronous full|normal --operations N` opens or makes a store in DIR, inserts N tokens and
//! revokes every third, and prints `ack issue ID` or `ack revoke ID` for each operation that the store acknowledged, one
//! write(2) for each line. `durability_probe --data DIR --check` prints `ID live` or `ID revoked` for each stored token.
//! Whatever was acknowledged before the cut must be there after it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_protocol::ids::{InstanceId, KeyId, Locator, MachineId, TokenId};
use countersign_protocol::page::{MachineOrder, Page, SortBy};
use countersign_protocol::random::{Random, random_bytes};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;
use countersign_protocol::token::TokenFormats;
use countersign_store::{
    ChainKey, DataKey, DataKeyPurpose, Digest, InsertMachine, InsertToken, Instance,
    InstanceKeyRow, MachineQuery, MachineRow, NewChange, NewInstance, NewMachine, NewMachineKey,
    NewToken, Proof, RevokeToken, SealedBytes, SigningKeyRow, SigningKeyState, Store, StoreChoice,
    StoreOptions, TokenQuery,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How many operations are in flight at once.
const CLIENTS: u64 = 8;

/// The time of everything; the probe has no clock.
const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// Bytes that differ; nothing here is secret.
struct Bytes(AtomicU64);

impl Random for Bytes {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let number = self
                .0
                .fetch_add(1, Ordering::Relaxed)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let number = (number ^ (number >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            chunk
                .iter_mut()
                .zip((number ^ (number >> 32)).to_be_bytes())
                .for_each(|(place, byte)| *place = byte);
        }
    }
}

struct Arguments {
    data: PathBuf,
    is_durable: bool,
    operations: Option<u64>,
}

fn arguments() -> Result<Arguments, Failure> {
    const USAGE: &str =
        "usage: durability_probe --data DIR (--check | --synchronous full|normal --operations N)";
    let (mut data, mut is_durable, mut operations, mut is_check) = (None, true, None, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match word.as_str() {
            "--data" => data = Some(PathBuf::from(value()?)),
            "--synchronous" => {
                is_durable = match value()?.as_str() {
                    "full" => true,
                    "normal" => false,
                    _ => return Err(USAGE.into()),
                }
            }
            "--operations" => operations = Some(value()?.parse()?),
            "--check" => is_check = true,
            _ => return Err(USAGE.into()),
        }
    }
    if is_check == operations.is_some() {
        return Err(USAGE.into());
    }
    Ok(Arguments {
        data: data.ok_or(USAGE)?,
        is_durable,
        operations,
    })
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    let options = StoreOptions {
        is_hasty_for_proof: !arguments.is_durable,
        on_fatal: Box::new(|reason| {
            eprintln!("fatal: {reason}");
            std::process::exit(70);
        }),
        ..StoreOptions::default()
    };
    let choice = StoreChoice::Folder(arguments.data.clone());
    match arguments.operations {
        None => check(&*choice.open(options)?.into_store()).await,
        Some(operations) => {
            let store = choice.create(options)?.into_store();
            run(store, &arguments.data, operations).await
        }
    }
}

/// Writes one line with one system call.
fn say(line: &str) -> Result<(), Failure> {
    // Standard output is buffered by lines, so a text that ends its line leaves at once.
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes())?;
    Ok(output.flush()?)
}

fn change() -> NewChange {
    NewChange {
        at: NOW,
        actor: "operator".to_owned(),
        key: None,
        chain: ChainKey::new(1, &[1; 32]),
    }
}

/// Finds the probe's machine, or makes it and all that it needs.
async fn machine(
    store: &dyn Store,
    random: &Bytes,
) -> Result<(Arc<Instance>, Arc<MachineRow>), Failure> {
    let digest = || Digest {
        bytes: random_bytes(random),
        version: 1,
    };
    if store.data_keys().await?.is_empty() {
        let wrapped = SealedBytes(vec![0; 60]);
        let key = |(purpose, _)| DataKey {
            purpose,
            version: 1,
            wrapped: wrapped.clone(),
            created_at: NOW,
        };
        store
            .initialize(DataKeyPurpose::ALL.into_iter().map(key).collect(), change())
            .await?;
    }
    let instance = match store.list_instances().await?.first() {
        Some(instance) => Arc::clone(instance),
        None => {
            let id = InstanceId::generate(NOW, random);
            let settings = InstanceSettings::default();
            let new = NewInstance {
                id,
                name: "probe".to_owned(),
                is_default: true,
                settings,
                created_at: NOW,
            };
            let key = InstanceKeyRow {
                id: KeyId::generate(random),
                instance: id,
                digest: digest(),
                created_at: NOW,
                revoked_at: None,
            };
            let signing_key = SigningKeyRow {
                id: id.first_signing_key(),
                instance: id,
                sealed: SealedBytes(vec![0; 60]),
                state: SigningKeyState::Active,
                published_at: NOW,
                active_at: Some(NOW),
                retired_at: None,
                last_expires_at: None,
            };
            store
                .insert_instance(new, key, signing_key, change())
                .await?
        }
    };
    if let Some(found) = machines(store, instance.id).await?.into_iter().next() {
        return Ok((instance, found));
    }
    let id = MachineId::generate(NOW, random);
    let new = NewMachine {
        id,
        instance: instance.id,
        name: "probe".to_owned(),
        default_token_ttl: 3600,
        scopes: Vec::new(),
        key: NewMachineKey {
            id: KeyId::generate(random),
            digest: digest(),
            sealed: None,
            created_at: NOW,
        },
        created_at: NOW,
    };
    match store.insert_machine(new, change()).await? {
        InsertMachine::Inserted(made) => Ok((instance, made.machine)),
        InsertMachine::ScopeNotFound(_) => Err("a machine without scopes misses one".into()),
    }
}

async fn machines(
    store: &dyn Store,
    instance: InstanceId,
) -> Result<Vec<Arc<MachineRow>>, Failure> {
    let order = MachineOrder {
        by: SortBy::CreatedAt,
        is_descending: false,
    };
    let query = MachineQuery {
        text: None,
        order,
        page: Page {
            limit: 500,
            offset: 0,
        },
    };
    Ok(store
        .list_machines(instance, query)
        .await?
        .0
        .into_iter()
        .map(|machine| machine.machine)
        .collect())
}

async fn run(store: Arc<dyn Store>, data: &Path, operations: u64) -> Result<(), Failure> {
    // Another run in the same folder goes on with other numbers.
    let start = stored(&*store)
        .await?
        .iter()
        .map(|(id, _)| id.locator().get() + 1)
        .max()
        .unwrap_or(1 << 40);
    let random = Arc::new(Bytes(AtomicU64::new(start.wrapping_mul(1 << 10))));
    let seen = Arc::new(machine(&*store, &random).await?);
    eprintln!(
        "writing {operations} tokens to {} from {start}",
        data.display()
    );
    let next = Arc::new(AtomicU64::new(0));
    let clients = (0..CLIENTS).map(|_| {
        let (store, seen, random, next) =
            (store.clone(), seen.clone(), random.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= operations {
                    return Ok::<_, Failure>(());
                }
                let locator = Locator::new(start + number).ok_or("there are no more locators")?;
                let id = TokenId::generate(locator, &*random);
                issue(&*store, &seen, id, &random).await?;
                say(&format!("ack issue {id}"))?;
                if number.is_multiple_of(3) {
                    revoke(&*store, &seen.1, id).await?;
                    say(&format!("ack revoke {id}"))?;
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    Ok(())
}

async fn issue(
    store: &dyn Store,
    (instance, machine): &(Arc<Instance>, Arc<MachineRow>),
    id: TokenId,
    random: &Bytes,
) -> Result<(), Failure> {
    let token = NewToken {
        id,
        instance: Arc::clone(instance),
        machine: Arc::clone(machine),
        proof: Proof::Opaque(Digest {
            bytes: random_bytes(random),
            version: 1,
        }),
        scopes: machine.scopes.clone(),
        claims: None,
        created_at: NOW,
        expires_at: None,
        pool: None,
        key: None,
        is_full: false,
        change: None,
    };
    match store.insert_token(token).await? {
        InsertToken::Inserted => Ok(()),
        other => Err(format!("a token was not inserted: {other:?}").into()),
    }
}

async fn revoke(store: &dyn Store, machine: &MachineRow, id: TokenId) -> Result<(), Failure> {
    match store
        .revoke_token(machine.instance, None, id, None, change())
        .await?
    {
        RevokeToken::Revoked(_) => Ok(()),
        other => Err(format!("a token was not revoked: {other:?}").into()),
    }
}

/// All stored tokens, and whether they are revoked.
async fn stored(store: &dyn Store) -> Result<Vec<(TokenId, bool)>, Failure> {
    let mut all = Vec::new();
    for instance in store.list_instances().await? {
        for machine in machines(store, instance.id).await? {
            loop {
                let query = TokenQuery {
                    machine: machine.id,
                    include_revoked: true,
                    include_expired: true,
                    formats: TokenFormats::All,
                    now: NOW,
                    page: Page {
                        limit: 10_000,
                        offset: all.len() as u64,
                    },
                };
                let (page, _) = store.list_tokens(instance.id, query).await?;
                if page.is_empty() {
                    break;
                }
                all.extend(
                    page.iter()
                        .map(|token| (token.row.id, token.row.revoked.is_some())),
                );
            }
        }
    }
    Ok(all)
}

async fn check(store: &dyn Store) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    for (id, is_revoked) in stored(store).await? {
        writeln!(
            output,
            "{id} {}",
            if is_revoked { "revoked" } else { "live" }
        )?;
    }
    Ok(())
}
