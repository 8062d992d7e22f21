//! Everything in a table, each with what it belongs to.
use crate::table::{Member, Model, Table, Version};

pub(super) fn versions(table: &Table) -> impl Iterator<Item = (&Model, &Version)> {
    table
        .models
        .iter()
        .flat_map(|model| model.versions.iter().map(move |version| (&**model, version)))
}

pub(super) fn members(table: &Table) -> impl Iterator<Item = (&Model, &Version, &Member)> {
    versions(table)
        .flat_map(|(model, version)| version.members.iter().map(move |m| (model, version, m)))
}
