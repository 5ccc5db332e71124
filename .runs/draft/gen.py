"""gen.py OUT PART ...: cells out of text files ('%% md', '%% code TAG ...')."""
import sys, nbformat
nb = nbformat.v4.new_notebook()
sys.path.insert(0, 'tools')
import runpy
from pathlib import Path
tool = runpy.run_path('tools/notebooks.py')
nb.cells.append(nbformat.v4.new_code_cell(tool['bootstrap_source'](Path('.').resolve()), metadata={'tags': ['remove-cell']}))
for part in sys.argv[2:]:
    for chunk in ('\n' + open(part).read()).split('\n%% ')[1:]:
        head, _, body = chunk.partition('\n')
        kind, *tags = head.split()
        body = body.strip('\n')
        if kind == 'md':
            nb.cells.append(nbformat.v4.new_markdown_cell(body))
        else:
            nb.cells.append(nbformat.v4.new_code_cell(body, metadata={'tags': tags} if tags else {}))
nb.metadata.update({'accelerator': 'GPU', 'colab': {'gpuType': 'T4', 'provenance': []}, 'kernelspec': {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'}, 'language_info': {'name': 'python'}})
nbformat.write(nb, sys.argv[1])
code = [c for c in nb.cells if c.cell_type == 'code']
words = sum(len(c.source.split()) for c in nb.cells if c.cell_type == 'markdown')
print(len(code), 'code cells;', words, 'words; longest', max(len(c.source.splitlines()) for c in code), 'lines; widest', max(len(l) for c in code for l in c.source.splitlines()))
