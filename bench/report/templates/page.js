const entries = [...document.querySelectorAll('.card .entry')];
const judged = entries.filter(entry => entry.dataset.verdict !== 'context');
const cards = [...document.querySelectorAll('.card')];
const controls = document.getElementById('controls');
controls.hidden = false;
controls.addEventListener('submit', event => event.preventDefault());
const chosen = name => document.getElementById(name).value;
// Read once: filtering must not touch the layout entry by entry.
const words = new Map(entries.map(entry => [entry, entry.textContent.toLowerCase()]));
const titles = new Map(cards.map(card => [card, (card.id + ' ' + card.querySelector('h3').textContent).toLowerCase()]));
function filter() {
  const wanted = chosen('words').toLowerCase().split(/\s+/).filter(Boolean);
  const [verdict, paper] = [chosen('verdict'), chosen('paper')];
  const active = Boolean(verdict || wanted.length);
  let count = 0;
  for (const card of cards) {
    const ofPaper = !paper || card.dataset.paper === paper;
    let left = 0;
    for (const entry of card.querySelectorAll('.entry')) {
      const text = titles.get(card) + ' ' + words.get(entry);
      entry.hidden = !(ofPaper && (!verdict || entry.dataset.verdict === verdict) && wanted.every(word => text.includes(word)));
      if (entry.hidden) continue;
      left += 1;
      count += entry.dataset.verdict !== 'context';
    }
    const named = !verdict && wanted.every(word => titles.get(card).includes(word));
    card.hidden = !ofPaper || (active && !left && !named);
    for (const more of card.querySelectorAll('.more:has(.entry)'))
      more.open = active && Boolean(more.querySelector('.entry:not([hidden])')) && !card.querySelector('.claim:not([hidden])');
  }
  for (const head of document.querySelectorAll('.of-paper')) head.hidden = Boolean(paper) && head.dataset.paper !== paper;
  for (const square of document.querySelectorAll('.square'))
    square.classList.toggle('dim', document.querySelector(square.getAttribute('href')).hidden);
  document.getElementById('shown').textContent = count + ' of ' + judged.length + ' entries';
}
for (const name of ['verdict', 'paper', 'words']) document.getElementById(name).addEventListener('input', filter);
// A square leads to its card, also where a filter has hidden it.
for (const square of document.querySelectorAll('.square')) square.addEventListener('click', () => {
  if (!square.classList.contains('dim')) return;
  for (const name of ['verdict', 'paper', 'words']) document.getElementById(name).value = '';
  filter();
});
for (const head of document.querySelectorAll('.numbers thead th')) {
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
