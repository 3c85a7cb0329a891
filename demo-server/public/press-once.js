/**
 * Makes one press of a button one press: by the second click of a double click, or while Enter is held, something
 * else may be in the place of what was pressed. Only streams may be opened as fast as somebody can click.
 */
export function pressOnce() {
  document.addEventListener('keydown', (event) => event.repeat && event.key === 'Enter' && stop(event), true)
  document.addEventListener(
    'click',
    (event) => {
      const button = event.target.closest('button')
      if (event.detail > 1 && button && button.id !== 'open-stream') stop(event)
    },
    true,
  )
}

function stop(event) {
  event.preventDefault()
  event.stopPropagation()
}
