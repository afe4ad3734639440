const rows = [...document.querySelectorAll('table.verdicts tbody tr')];
const controls = document.getElementById('controls');
controls.hidden = false;
const chosen = name => document.getElementById(name).value;
function filter() {
  const words = chosen('words').toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const fits = (!chosen('verdict') || row.dataset.verdict === chosen('verdict'))
      && (!chosen('paper') || row.dataset.paper === chosen('paper'))
      && row.textContent.toLowerCase().includes(words);
    row.hidden = !fits;
    shown += fits;
  }
  for (const card of document.querySelectorAll('.card'))
    card.hidden = chosen('paper') && card.dataset.paper !== chosen('paper');
  document.getElementById('shown').textContent = shown + ' of ' + rows.length + ' entries';
}
for (const name of ['verdict', 'paper', 'words']) document.getElementById(name).addEventListener('input', filter);
for (const head of document.querySelectorAll('table.verdicts th')) {
  head.tabIndex = 0;
  const sort = () => {
    const table = head.closest('table'), place = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute('aria-sort') === 'ascending';
    for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const key = row => row.children[place].textContent;
    const order = (a, b) => {
      const x = parseFloat(key(a)), y = parseFloat(key(b));
      return isNaN(x) || isNaN(y) ? key(a).localeCompare(key(b)) : x - y;
    };
    const body = table.tBodies[0];
    [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)).forEach(row => body.append(row));
  };
  head.addEventListener('click', sort);
  head.addEventListener('keydown', event => { if (event.key === 'Enter') sort(); });
}
filter();
