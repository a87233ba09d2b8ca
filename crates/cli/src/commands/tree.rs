use perennial::declared_tree;

use crate::{
    args::TreeArgs,
    exit::{self, failed},
    output,
};

pub(super) fn tree(args: &TreeArgs) -> anyhow::Result<i32> {
    // The only picture this version can draw without a running process.
    assert!(args.declared, "required by the command line");
    let tree = declared_tree(Vec::new()).map_err(|error| failed(exit::STORE, error))?;
    output::tree(&tree, args.output.json)?;
    Ok(exit::COMPLETED)
}
