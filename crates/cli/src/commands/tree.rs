use perennial::declared_tree;

use crate::{
    args::TreeArgs,
    exit::{self, failed, failed_with},
    output,
};

pub(super) fn tree(args: &TreeArgs) -> anyhow::Result<i32> {
    if !args.declared {
        let text = "a process shows its own tree: add --tree to `run` or `resume`";
        let help = "perennial tree --declared   (the tree as specified, before anything runs)";
        return Err(failed_with(exit::USAGE, text, help.to_owned()));
    }
    let tree = declared_tree(Vec::new()).map_err(|error| failed(exit::STORE, error))?;
    output::tree(&tree, args.output.json)?;
    Ok(exit::COMPLETED)
}
