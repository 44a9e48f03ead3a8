// Builds the page into the Python package and writes down which sources it was built from.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const out = "../src/vemosaic/explorer/page";
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await build({
  entryPoints: ["src/main.ts", "style.css"],
  outdir: out,
  entryNames: "[name]",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  logLevel: "warning",
});
copyFileSync("index.html", `${out}/index.html`);

// The same sum is made in tests/explorer/test_page_build.py, without Node.
const sources = ["index.html", "package-lock.json", "style.css", ...readdirSync("src").map((name) => `src/${name}`)].sort();
const sum = createHash("sha256");
for (const name of sources) sum.update(`${name}\0`).update(readFileSync(name)).update("\0");
writeFileSync(`${out}/sources.sha256`, `${sum.digest("hex")}\n`);
