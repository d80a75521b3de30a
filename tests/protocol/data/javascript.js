// Reads lines of [id, name, version, description?] as JSON, and answers what JSON.stringify makes of the object.
const lines = require("node:fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
const written = lines.map((line) => {
  const [id, name, version, description] = JSON.parse(line);
  return JSON.stringify({ id, name, version, description });
});
process.stdout.write(written.join("\n") + "\n");
