//! `./dev api-docs`: writes the documents of the order system to `web/api/`.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/api");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in api_docs::files()? {
        std::fs::write(folder.join(name), text)?;
        println!("web/api/{name}");
    }
    Ok(())
}
