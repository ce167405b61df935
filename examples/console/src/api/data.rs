//! What the API remembers: in memory, a database in earnest.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rpc::{Job, JobStatus, OpenJob, Source};

pub(super) struct Data(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    sources: BTreeMap<String, Source>,
    /// In the order in which they came.
    jobs: Vec<Job>,
    /// Which job a delivery has caused.
    deliveries: BTreeMap<String, String>,
}

impl Data {
    /// With two repositories.
    pub(super) fn seeded() -> Self {
        let source = |id: &str, github_repo_id, full_name: &str| {
            let source = Source {
                id: id.to_owned(),
                github_repo_id,
                full_name: full_name.to_owned(),
                synced_commit: None,
            };
            (id.to_owned(), source)
        };
        let sources = BTreeMap::from([
            source("src_1", 1_296_269, "octocat/Hello-World"),
            source("src_2", 1_300_192, "octocat/Spoon-Knife"),
        ]);
        Self(Mutex::new(Tables {
            sources,
            ..Tables::default()
        }))
    }

    pub(super) fn source_by_github_repo_id(&self, github_repo_id: u64) -> Option<Source> {
        let tables = self.tables();
        let mut sources = tables.sources.values();
        sources
            .find(|source| source.github_repo_id == github_repo_id)
            .cloned()
    }

    pub(super) fn update_synced_commit(&self, id: &str, commit: &str) -> Option<Source> {
        let mut tables = self.tables();
        let source = tables.sources.get_mut(id)?;
        source.synced_commit = Some(commit.to_owned());
        Some(source.clone())
    }

    /// Opens a job, once for each delivery. `None` where there is no such source.
    pub(super) fn insert_job(
        &self,
        source_id: &str,
        commit: &str,
        delivery_id: &str,
    ) -> Option<Job> {
        let mut tables = self.tables();
        if let Some(id) = tables.deliveries.get(delivery_id) {
            return tables.jobs.iter().find(|job| job.id == *id).cloned();
        }
        let source = tables.sources.get(source_id)?;
        let job = Job {
            id: format!("job_{}", tables.jobs.len().saturating_add(1)),
            source_id: source.id.clone(),
            commit: commit.to_owned(),
            status: JobStatus::Open,
        };
        tables
            .deliveries
            .insert(delivery_id.to_owned(), job.id.clone());
        tables.jobs.push(job.clone());
        Some(job)
    }

    pub(super) fn job(&self, id: &str) -> Option<Job> {
        self.tables().jobs.iter().find(|job| job.id == id).cloned()
    }

    /// The oldest one, with its source.
    pub(super) fn open_job_by_github_repo_id(&self, github_repo_id: u64) -> Option<OpenJob> {
        let source = self.source_by_github_repo_id(github_repo_id)?;
        let is_next = |job: &&Job| job.source_id == source.id && job.status == JobStatus::Open;
        let job = self.tables().jobs.iter().find(is_next).cloned()?;
        Some(OpenJob { job, source })
    }

    pub(super) fn complete_job(&self, id: &str) -> Option<Job> {
        let mut tables = self.tables();
        let job = tables.jobs.iter_mut().find(|job| job.id == id)?;
        job.status = JobStatus::Completed;
        Some(job.clone())
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
