//! The command line of `sweep`, as typed.

use crate::compare::FieldArgs;

/// Several servers at several points of one quantity.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(crate) field: FieldArgs,
    /// Name of the quantity in file names and headings
    #[arg(long, value_name = "WORD")]
    pub(crate) name: String,
    /// A point as VALUE=RUN ARGUMENTS; VALUE is its place on the axis, and {point} in a server's
    /// command or its own run arguments becomes it (repeatable)
    #[arg(long = "point", value_name = "VALUE=ARGUMENTS", required = true)]
    pub(crate) points: Vec<String>,
    /// What the axis says
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) label: String,
    /// A line below the charts' titles
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) remark: String,
    /// A linear axis instead of a logarithmic one
    #[arg(long)]
    pub(crate) linear: bool,
}
