const rows = [...document.querySelectorAll('table.verdicts tbody tr')];
const context = document.getElementById('table-context');
const judged = rows.filter(row => !context || !context.contains(row));
document.getElementById('controls').hidden = false;
const chosen = name => document.getElementById(name).value;
// Read once: filtering must not touch the layout row by row.
const words = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
function filter() {
  const wanted = chosen('words').toLowerCase().split(/\s+/);
  for (const row of rows) {
    row.hidden = !((!chosen('verdict') || row.dataset.verdict === chosen('verdict'))
      && (!chosen('paper') || row.dataset.paper === chosen('paper'))
      && wanted.every(word => words.get(row).includes(word)));
  }
  for (const card of document.querySelectorAll('.card'))
    card.hidden = chosen('paper') && card.dataset.paper !== chosen('paper');
  document.getElementById('shown').textContent = judged.filter(row => !row.hidden).length + ' of ' + judged.length + ' entries';
}
for (const name of ['verdict', 'paper', 'words']) document.getElementById(name).addEventListener('input', filter);
for (const head of document.querySelectorAll('table.verdicts th')) {
  head.tabIndex = 0;
  const sort = () => {
    const table = head.closest('table'), place = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute('aria-sort') === 'ascending';
    for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const key = row => { const cell = row.children[place]; return cell.dataset.key ?? cell.textContent.trim(); };
    // Numbers before words; cells with nothing stay last in either direction.
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === '' || y === '') return (x === '') - (y === '');
      const [u, v] = [Number(x), Number(y)];
      const less = isNaN(u) || isNaN(v)
        ? (isNaN(u) - isNaN(v)) || x.localeCompare(y, 'en', { numeric: true }) : u - v;
      return down ? -less : less;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(order));
  };
  head.addEventListener('click', sort);
  head.addEventListener('keydown', event => { if (event.key === 'Enter') sort(); });
}
filter();
